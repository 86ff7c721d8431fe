// Every point against a baseline of the reader's choice: the numbers of all choices are in the page.
(() => {
  const bar = document.getElementById("baseline");
  if (!bar) return;
  const numbers = JSON.parse(document.getElementById("baselines").textContent);
  const table = document.getElementById("points-table");
  const rows = [...table.querySelectorAll("tr[data-index]")].sort((a, b) => a.dataset.index - b.dataset.index);
  const heads = [...table.tHead.rows[0].cells];
  const at = (name) => heads.findIndex((head) => head.dataset.of?.startsWith(`${name} `));
  bar.hidden = false;
  const selects = [...bar.querySelectorAll("select")];
  for (const select of selects) {
    select.addEventListener("change", () => {
      chosen.set(select.name, select.selectedIndex ? select.value : "");
    });
  }
  chosen.follow(() => {
    for (const select of selects) {
      const wanted = chosen.get(select.name);
      select.value = [...select.options].some((option) => option.value === wanted) ? wanted : select.options[0].value;
      const column = at(select.dataset.column);
      rows.forEach((row, index) => {
        const [text, interval, exact] = numbers[select.dataset.column][select.value][index];
        const cell = row.cells[column];
        cell.querySelector("b").textContent = text;
        cell.dataset.v = exact;
        row.cells[column + 1].textContent = interval;
      });
    }
    const said = selects.map((select) => select.selectedOptions[0].textContent);
    document.getElementById("baseline-said").textContent = `Efficiencies are against ${said[0]}, step times over those of ${said[1]}.`;
  });
})();
