// Figures: entries of a legend switch their series, points tell what they are, a button saves the rows as CSV.
(() => {
  const tip = make("div", { id: "tip", role: "status" });
  tip.hidden = true;
  document.body.append(tip);
  // Where a point's cells are, by repeat: their rows on this page, or, where there are too many of these, their own pages.
  const places = ({ dataset: { cells, repeats } }) => (repeats ? repeats.split(" ") : []).map((repeat) =>
    [repeat, cells.startsWith("#") ? `${cells}${repeat}` : `${cells}${repeat}.html`])
    .filter(([, place]) => !place.startsWith("#") || document.getElementById(place.slice(1)));
  const tell = (words, point) => {
    const [told, again] = words.split("\n");
    const links = places(point).map(([repeat, place]) => make("a", { href: place, text: `repeat ${repeat}` }));
    const parts = links.flatMap((link, index) => (index ? [", ", link] : [link]));
    tip.replaceChildren(make("p", { text: told }),
      ...(links.length ? [make("p", { text: "Its cells: " }, ...parts)] : []),
      ...(again ? [make("p", { text: "To run it again, without its records: " }, make("code", { text: again }))] : []));
    tip.hidden = false;
  };
  // A click keeps what is told, so that it can be copied, until Escape or a click elsewhere.
  let kept = false;
  const hush = () => { if (!kept) tip.hidden = true; };
  const leave = () => { kept = false; hush(); };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") leave(); });
  document.addEventListener("click", (event) => { if (!event.target.closest("[data-point], #tip")) leave(); });

  // Points of a figure: one stop of the keyboard, arrows go from point to point.
  const points = (figure) => {
    const all = [...figure.querySelectorAll("[data-point]")];
    all.forEach((point, index) => {
      const title = point.querySelector("title");
      const words = title.textContent;
      title.remove();
      for (const [name, value] of [["role", "img"], ["aria-label", words], ["tabindex", index ? "-1" : "0"]]) {
        point.setAttribute(name, value);
      }
      point.addEventListener("pointerenter", () => { if (!kept) tell(words, point); });
      point.addEventListener("focus", () => { kept = false; tell(words, point); });
      point.addEventListener("click", () => { tell(words, point); kept = true; });
      point.addEventListener("pointerleave", hush);
      point.addEventListener("blur", hush);
      point.addEventListener("keydown", (event) => {
        if (event.key === "Enter") {
          tell(words, point);
          kept = true;
          tip.querySelector("a")?.focus();
        }
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const seen = all.filter((each) => !each.closest(".off"));
        const next = seen[seen.indexOf(point) + step];
        if (!next) return;
        all.forEach((each) => each.setAttribute("tabindex", each === next ? "0" : "-1"));
        next.focus();
      });
    });
    return all;
  };

  const rowsOf = (figure, data) => {
    const { count, columns } = JSON.parse(data.textContent);
    const names = Object.keys(columns);
    const at = (name, index) => (Array.isArray(columns[name]) ? columns[name][index] : columns[name]);
    const rows = [...Array(count).keys()].filter((index) => names.every((name) => {
      const wanted = filter.value(name);
      return wanted === "" || encodeURIComponent(String(at(name, index) ?? "")) === encodeURIComponent(decodeURIComponent(wanted));
    }));
    return [names, ...rows.map((index) => names.map((name) => String(at(name, index) ?? "")))];
  };

  for (const figure of document.querySelectorAll("main figure")) {
    const name = `off-${figure.id}`;
    const series = [...figure.querySelectorAll("[data-series]")];
    const entries = [...figure.querySelectorAll("[data-entry]")];
    const all = points(figure);
    const data = figure.querySelector("script[type='application/json']");
    const note = make("span", { class: "count" });
    const tools = make("div", { class: "tools" });
    if (data) {
      tools.append(make("button", { type: "button", text: "CSV", title: `Save ${figure.id}.csv`,
        "aria-label": `save the rows of ${figure.id} as CSV`, click: () => save(figure.id, rowsOf(figure, data)) }));
    }
    if (data || series.length) figure.prepend(tools);
    tools.append(note);
    const drawn = new Set(series.map((part) => part.dataset.series));
    for (const entry of entries.filter((each) => drawn.has(each.dataset.entry))) {
      const toggle = () => {
        const off = new Set(chosen.list(name));
        if (!off.delete(entry.dataset.entry)) off.add(entry.dataset.entry);
        chosen.set(name, ...off);
      };
      entry.classList.add("entry");
      entry.addEventListener("click", toggle);
      if (entry.querySelector("text") === null) continue; // of a name and its sample, the name takes the focus
      for (const [key, value] of [["role", "button"], ["tabindex", "0"], ["aria-label", `series ${entry.dataset.entry}`]]) {
        entry.setAttribute(key, value);
      }
      entry.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        toggle();
      });
    }
    chosen.follow(() => {
      const off = new Set(chosen.list(name));
      series.forEach((part) => part.classList.toggle("off", off.has(part.dataset.series) || !filter.matches(part)));
      all.forEach((point) => {
        if (!point.hasAttribute("data-series")) point.classList.toggle("off", !filter.matches(point));
      });
      for (const entry of entries.filter((each) => drawn.has(each.dataset.entry))) {
        const gone = off.has(entry.dataset.entry) || !filter.matches(entry);
        entry.classList.toggle("pale", gone);
        if (entry.hasAttribute("role")) entry.setAttribute("aria-pressed", String(!gone));
      }
      const none = series.length > 0 && series.every((part) => part.classList.contains("off"));
      note.textContent = none ? "No series is of this choice." : "";
      figure.classList.toggle("none", none && !off.size);
    });
  }
})();
