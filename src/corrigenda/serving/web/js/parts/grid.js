// Arrow keys in a grid of cells: one of them takes part in the order of tabs, the others by arrows.

/** rows: arrays of the focusable elements of each row. */
export function roving(element, rows) {
  let [row, column] = [0, 0];
  for (const cell of rows.flat()) cell.tabIndex = -1;
  if (rows[0]?.[0]) rows[0][0].tabIndex = 0;

  function go(r, c, focus = true) {
    const nextRow = Math.max(0, Math.min(rows.length - 1, r));
    const nextColumn = Math.max(0, Math.min(rows[nextRow].length - 1, c));
    rows[row][column].tabIndex = -1;
    [row, column] = [nextRow, nextColumn];
    rows[row][column].tabIndex = 0;
    if (focus) rows[row][column].focus();
  }

  element.addEventListener("keydown", (event) => {
    const far = event.ctrlKey || event.metaKey;
    const moves = {
      ArrowRight: [row, column + 1], ArrowLeft: [row, column - 1],
      ArrowDown: [row + 1, column], ArrowUp: [row - 1, column],
      Home: [far ? 0 : row, 0], End: [far ? rows.length - 1 : row, Infinity],
      PageDown: [row + 5, column], PageUp: [row - 5, column],
    };
    const move = moves[event.key];
    if (!move || event.altKey) return;
    event.preventDefault();
    go(...move);
  });
  element.addEventListener("focusin", (event) => {
    rows.forEach((cells, r) => {
      const c = cells.indexOf(event.target);
      if (c >= 0) go(r, c, false);
    });
  });
}
