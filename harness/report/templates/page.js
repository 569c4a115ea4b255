// What a reader may do with a page beyond reading it: sort a table, search, come from a number to its samples.
// The page is whole without it; nothing is loaded, nothing that a model wrote becomes markup.
(() => {
  "use strict";
  const make = (name, words) => Object.assign(document.createElement(name), { textContent: words ?? "" });

  // --- tables: a click on a column's head sorts by it, further clicks turn the order and give the first back.
  const number = (cell) => {
    const found = cell.textContent.replace(/[−‑]/g, "-").match(/^\D{0,2}?(-?[\d,]*\.?\d+)/);
    return found ? Number(found[1].replaceAll(",", "")) : null;
  };
  const compare = (column, turn) => (a, b) => {
    const [one, two] = [a.cells[column], b.cells[column]];
    const [x, y] = [number(one), number(two)];
    if (x !== null && y !== null) return turn * (x - y);
    if ((x === null) !== (y === null)) return x === null ? 1 : -1; // what is no number stands last in both orders
    return turn * one.textContent.localeCompare(two.textContent);
  };
  const sortable = (table) => {
    const rows = [...table.tBodies[0].rows];
    const head = table.tHead?.rows[0];
    return head && rows.length > 2 && rows.every((row) => row.cells.length === head.cells.length)
      && !table.querySelector("[rowspan], [colspan], .deep, .detail");
  };
  for (const table of document.querySelectorAll(".scroll > table")) {
    if (!sortable(table)) continue;
    const body = table.tBodies[0];
    const first = [...body.rows];
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      if (!cell.textContent.trim()) return;
      const button = make("button");
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        const order = { none: "descending", descending: "ascending", ascending: "none" }[cell.ariaSort ?? "none"];
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        if (order !== "none") cell.ariaSort = order;
        body.append(...(order === "none" ? first : [...first].sort(compare(column, order === "ascending" ? 1 : -1))));
      });
    });
  }

  // --- samples: words to search for, and how many cards are seen.
  for (const box of document.querySelectorAll(".samples")) {
    const cards = [...box.querySelectorAll(".card")];
    const filters = box.querySelector(".filters");
    if (!filters) continue;
    const label = make("label", "search ");
    const input = Object.assign(make("input"), { type: "search" });
    const seen = make("p");
    seen.className = "quiet";
    seen.setAttribute("role", "status");
    label.append(input);
    filters.prepend(label);
    filters.after(seen);
    const texts = cards.map((card) => card.textContent.toLowerCase());
    const count = () => {
      const visible = cards.filter((card) => card.offsetParent !== null).length;
      seen.textContent = `${visible} of the ${cards.length} cards on this page`;
    };
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      cards.forEach((card, i) => { card.hidden = !words.every((word) => texts[i].includes(word)); });
      count();
    });
    filters.addEventListener("change", count);
    box.addEventListener("toggle", count);
    count();
  }

  // --- a link with data-show opens the samples and shows the model that it names alone.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link) return;
    const target = document.getElementById(link.hash.slice(1));
    const folded = target?.querySelector("details.samples") ?? target?.closest("details");
    if (folded) folded.open = true;
    if (!link.dataset.show) return;
    for (const input of folded?.querySelectorAll(".filters input[name=model]") ?? []) {
      input.checked = input.labels[0].textContent.trim() === link.dataset.show;
    }
    folded?.querySelector(".filters")?.dispatchEvent(new Event("change"));
  });
})();
