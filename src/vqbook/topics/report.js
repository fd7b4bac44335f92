// Columns that sort, and a topic's documents lit up on the map while its row is pointed at or focused.
(() => {
  const table = document.querySelector('table'), map = document.querySelector('.map');
  if (!table) return;
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => Number(row.cells[i].dataset.value ?? NaN);
  heads.forEach((head, i) => {
    if (!head.dataset.sort) return;
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') !== 'descending' ? 1 : -1;
      const first = i === 0 && !head.hasAttribute('aria-sort') ? -1 : down;
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', first === 1 ? 'descending' : 'ascending');
      body.append(...[...body.rows].sort((a, b) => first * (value(b, i) - value(a, i))));
    });
  });
  if (!map) return;
  const light = (topic) => {
    map.toggleAttribute('data-dim', topic !== null);
    for (const group of map.querySelectorAll('g[data-topic]'))
      group.toggleAttribute('data-on', group.dataset.topic === topic);
  };
  for (const row of body.rows) {
    const topic = row.dataset.topic;
    for (const on of ['mouseenter', 'focusin']) row.addEventListener(on, () => light(topic));
    for (const off of ['mouseleave', 'focusout']) row.addEventListener(off, () => light(null));
  }
})();
