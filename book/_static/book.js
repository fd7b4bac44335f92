// Small repairs to the theme's markup, so that the page is complete for keyboard and screen reader.
document.addEventListener("DOMContentLoaded", () => {
  // The bibliography calls itself a list, but its entries are no list items.
  document.querySelectorAll(".citation-list[role=list]").forEach((list) => list.removeAttribute("role"));

  // A browser may break a line between a formula and the comma after it: keep the two together.
  document.querySelectorAll("span.math").forEach((formula) => {
    const after = formula.nextSibling, mark = after?.nodeType === Node.TEXT_NODE && after.data.match(/^[.,;:!?)\]”’]+/);
    if (!mark) return;
    const kept = document.createElement("span");
    kept.className = "kept";
    formula.replaceWith(kept);
    kept.append(formula, mark[0]);
    after.data = after.data.slice(mark[0].length);
  });

  // What scrolls sideways has to be reachable by keyboard: long code, wide tables, and formulas wider than a phone.
  const scrollable = "div.highlight pre, .cell_output pre, div.math, .pst-scrollable-table-container, .output.text_html";
  const mark = () => {
    document.querySelectorAll(scrollable).forEach((box) => {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0; else box.removeAttribute("tabindex");
    });
    document.querySelectorAll("span.math").forEach((formula) => {
      const inner = formula.querySelector("mjx-container"), column = formula.closest("p, li, td, th, dd, div, figcaption");
      const wide = Boolean(inner && column && inner.offsetWidth > column.clientWidth);
      formula.classList.toggle("wide", wide);
      if (wide) formula.tabIndex = 0; else formula.removeAttribute("tabindex");
    });
  };
  const later = () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(mark);
  document.addEventListener("toggle", mark, true);
  addEventListener("resize", mark);
  addEventListener("load", later);
});
