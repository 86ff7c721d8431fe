// What the reader chose, kept in the address after "?", so that a link shows the same: #place?model=vgg16&...
const chosen = (() => {
  const listeners = [];
  const parts = () => location.hash.slice(1).split("?");
  let values = new URLSearchParams(parts()[1] || "");
  const write = () => {
    const query = values.toString();
    const place = parts()[0];
    const hash = query ? `#${place}?${query}` : place ? `#${place}` : "";
    history.replaceState(null, "", location.pathname + location.search + hash);
  };
  const tell = () => listeners.forEach((listener) => listener());
  const decoded = (text) => {
    try { return decodeURIComponent(text); } catch { return text; } // an address that somebody cut short
  };
  const go = () => {
    const place = document.getElementById(decoded(parts()[0]));
    if (!place) return;
    for (let fold = place.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    place.scrollIntoView();
  };
  // A link to a place of the page keeps what was chosen; an address with choices of its own brings those.
  window.addEventListener("hashchange", () => {
    const query = parts()[1];
    if (query === undefined) write(); else values = new URLSearchParams(query);
    tell();
    go();
  });
  window.addEventListener("load", go);
  return {
    get: (name) => values.get(name) || "",
    list: (name) => values.getAll(name),
    set(name, ...wanted) {
      values.delete(name);
      wanted.filter(Boolean).forEach((value) => values.append(name, value));
      write();
      tell();
    },
    // Calls `listener` now and after each change.
    follow(listener) { listeners.push(listener); listener(); },
  };
})();

// An element: its name, attributes ("text": what it says, "click": what a click does), and the elements within it.
const make = (name, { text = "", click = null, ...attributes } = {}, ...within) => {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (click) made.addEventListener("click", click);
  made.append(...within);
  return made;
};

// Rows of texts as a file that is saved.
const save = (name, rows) => {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const text = rows.map((row) => row.map(quoted).join(",") + "\r\n").join("");
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: address, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
};
