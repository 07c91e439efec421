"use strict";
(() => {
  const table = document.getElementById("images");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const filter = document.getElementById("filter");
  const sort = document.getElementById("sort");
  const shown = document.getElementById("shown");
  const nothing = document.querySelector(".none");
  const tiles = [...document.querySelectorAll(".tile")];
  const headings = [...table.querySelectorAll("button[data-sort]")];
  const texts = new Map();
  let order = { name: "", descending: false };

  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };

  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = new Set(tiles.filter((tile) => tile.getAttribute("aria-pressed") === "true").map((tile) => tile.dataset.status));
    let count = 0;
    for (const row of rows) {
      const fits = (!wanted.size || wanted.has(row.dataset.status)) && words.every((word) => textOf(row).includes(word));
      row.hidden = !fits;
      if (fits) count += 1;
    }
    const all = `${rows.length.toLocaleString("en")} ${rows.length === 1 ? "image" : "images"}`;
    shown.textContent = count === rows.length ? all : `${count.toLocaleString("en")} of ${all}`;
    nothing.hidden = count > 0;
  };

  const keyOf = (row, name) => row.querySelector(`[data-name="${name}"]`).dataset.key;

  const arrange = (name, descending) => {
    order = { name, descending };
    let sorted = rows;
    if (name) {
      const keys = new Map(rows.map((row) => [row, keyOf(row, name)]));
      const numbers = rows.every((row) => keys.get(row) === "" || !Number.isNaN(Number(keys.get(row))));
      const compare = numbers ? (a, b) => Number(a) - Number(b) : (a, b) => a.localeCompare(b, "en");
      sorted = [...rows].sort((one, other) => {
        const a = keys.get(one), b = keys.get(other);
        if (a === "" || b === "") return (a === "") - (b === "");  // what is not known comes last
        return descending ? compare(b, a) : compare(a, b);
      });
    }
    body.append(...sorted);
    sort.value = name;
    for (const button of headings) {
      const heading = button.closest("th");
      if (button.dataset.sort === name) heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
  };

  for (const tile of tiles) {
    tile.disabled = false;
    tile.addEventListener("click", () => {
      tile.setAttribute("aria-pressed", String(tile.getAttribute("aria-pressed") !== "true"));
      show();
    });
  }
  for (const button of headings) {
    button.disabled = false;
    button.addEventListener("click", () => {
      const name = button.dataset.sort;
      // Ascending, descending, and back to what needs a person.
      if (order.name !== name) arrange(name, false);
      else if (!order.descending) arrange(name, true);
      else arrange("", false);
    });
  }
  filter.addEventListener("input", show);
  filter.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { filter.value = ""; show(); }
  });
  sort.addEventListener("change", () => arrange(sort.value, false));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      filter.focus();
    }
  });
  const tools = document.querySelector(".tools");
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  show();
})();
