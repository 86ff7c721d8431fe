// Tables: a button in each heading sorts by its column, one above the table saves its rows as CSV.
(() => {
  // A cell's text for a file: exact values where there are some, else what is shown, without notes beside it.
  const shown = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("summary, .beside, [role=note]").forEach((each) => each.remove());
    const text = copy.textContent.trim();
    if (text === "–") return "";
    return /^-?\d{1,3}(,\d{3})+(\.\d+)?$/.test(text) ? text.replace(/,/g, "") : text;
  };
  const exact = (cell) => cell.dataset.v ?? shown(cell);
  const label = (head) => (head.querySelector(".term")?.firstChild ?? head.firstChild).textContent.trim();
  // Names of a table's columns: their labels; where several have the same, with that of the column before.
  const named = (table) => {
    const labels = [...table.tHead.rows[0].cells].map(label);
    const twice = (text) => labels.indexOf(text) !== labels.lastIndexOf(text);
    return labels.map((text, index) => (index && twice(text) ? `${labels[index - 1]}, ${text}` : text));
  };
  const key = (cell) => {
    const text = exact(cell).trim();
    const number = parseFloat(text.replace(/^[^\d.+-]+/, ""));
    return text === "" ? null : /^[^a-zA-Z]*\d/.test(text) && !Number.isNaN(number) ? number : text;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return typeof a === typeof b ? a.localeCompare(b) : typeof a === "number" ? -1 : 1;
  };

  const columns = (table) => {
    const names = named(table);
    return [...table.tHead.rows[0].cells].map((head, index) => head.dataset.of?.split(" ") ?? [names[index]]);
  };
  const csv = (table) => {
    const names = columns(table);
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const values = (row) => names.flatMap((of, index) => {
      const text = exact(row.cells[index]);
      return of.length > 1 ? of.map((_, at) => text.split(" ")[at] ?? "") : [text];
    });
    return [names.flat(), ...rows.map(values)];
  };

  for (const table of document.querySelectorAll("main table[id]")) {
    const body = table.tBodies[0];
    const unsorted = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const name = `sort-${table.id}`;
    const names = named(table);
    heads.forEach((head, index) => {
      const sort = () => chosen.set(name, chosen.get(name) === names[index] ? `-${names[index]}` : names[index]);
      head.append(make("button", { type: "button", class: "sort", "aria-label": `sort by ${names[index]}`, click: sort }));
    });
    const button = make("button", { type: "button", text: "CSV", title: `Save ${table.id}.csv`,
      "aria-label": `save ${table.id} as CSV`, click: () => save(table.id, csv(table)) });
    table.parentElement.before(make("div", { class: "tools" }, button, make("span", { class: "count" })));
    let last = "";
    chosen.follow(() => {
      const wanted = chosen.get(name);
      if (wanted === "" && last === "") return; // what is sorted may have other values now
      last = wanted;
      const down = wanted.startsWith("-") && !names.includes(wanted);
      const index = names.indexOf(down ? wanted.slice(1) : wanted);
      heads.forEach((head, at) => {
        if (at === index) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      if (index < 0) return body.append(...unsorted);
      const keyed = unsorted.map((row) => [key(row.cells[index]), row]);
      // what has no value stays last, whichever way the others go
      const known = keyed.filter(([value]) => value !== null).sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
      body.append(...known.map(([, row]) => row), ...keyed.filter(([value]) => value === null).map(([, row]) => row));
    });
  }
})();
