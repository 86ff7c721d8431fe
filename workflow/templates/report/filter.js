// One bar of choices for all rows of tables, claims and series of figures.
const filter = (() => {
  const bar = document.getElementById("filters");
  const selects = [...bar.querySelectorAll("select")];
  // What has no attribute of a choice is of all; one that has names what it is of, with spaces between.
  const matches = (element) => selects.every((select) => {
    const of = element.getAttribute(`data-${select.name}`);
    return select.value === "" || of === null || of.split(" ").includes(select.value);
  });
  const tables = [...document.querySelectorAll("main table[id]")];
  bar.hidden = selects.length === 0;
  for (const select of selects) select.addEventListener("change", () => chosen.set(select.name, select.value));
  bar.addEventListener("reset", (event) => {
    event.preventDefault();
    selects.forEach((select) => chosen.set(select.name));
  });
  chosen.follow(() => {
    for (const select of selects) {
      const wanted = chosen.get(select.name);
      select.value = [...select.options].some((option) => option.value === wanted) ? wanted : "";
    }
    const any = selects.some((select) => select.value !== "");
    bar.querySelector("button").disabled = !any;
    document.querySelectorAll("details.one").forEach((fold) => { fold.hidden = !matches(fold); });
    for (const table of tables) {
      const rows = [...table.tBodies[0].rows];
      rows.forEach((row) => { row.hidden = !matches(row); });
      const many = (some) => some.reduce((sum, row) => sum + Number(row.dataset.rows ?? 1), 0); // a row may stand for several
      const [left, all] = [many(rows.filter((row) => !row.hidden)), many(rows)];
      const count = table.parentElement.previousElementSibling.querySelector(".count");
      count.textContent = any ? `${left} of ${all} rows` : "";
      if (table.id === "cells-table") bar.querySelector("output").textContent = any ? `${left} of ${all} cells` : "";
    }
  });
  return { matches, value: (name) => selects.find((select) => select.name === name)?.value ?? "" };
})();
// What is folded is printed, too.
window.addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach((fold) => {
  fold.open = true;
  window.addEventListener("afterprint", () => { fold.open = false; }, { once: true });
}));
