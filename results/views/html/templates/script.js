// Sorting and filtering of the index. The page is complete without it; what is chosen is kept in the address.
"use strict";
(() => {
  const table = document.querySelector(".board"), body = table.tBodies[0], form = document.querySelector(".filters");
  const rows = [...body.rows], heads = [...table.tHead.rows[0].cells], output = form.querySelector("output");
  const names = ["q", "paper", "data", "verdict", "tier"];
  let sort = "";

  const value = (row, column) => {
    const cell = row.cells[column];
    return heads[column].dataset.sort === "number" ? cell.dataset.value : cell.textContent.trim();
  };
  // What has no value comes last in both directions.
  const compare = (column, down) => (one, other) => {
    const a = value(one, column), b = value(other, column);
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = heads[column].dataset.sort === "number" ? a - b : a.localeCompare(b, "en");
    return down ? -order : order;
  };

  const show = () => {
    const wanted = Object.fromEntries(names.map((name) => [name, form.elements[name].value]));
    const text = wanted.q.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = names.slice(1).every((name) => !wanted[name] || row.dataset[name] === wanted[name]);
      row.hidden = !(fits && (!text || row.textContent.toLowerCase().includes(text)));
      count += !row.hidden;
    }
    output.textContent = `${count} of ${rows.length}`;
    const [column, down] = [parseInt(sort, 10), sort.endsWith("d")];
    heads.forEach((head, index) => head.setAttribute("aria-sort", index !== column ? "none" : down ? "descending" : "ascending"));
    body.append(...(sort ? [...rows].sort(compare(column, down)) : rows));
  };

  const remember = () => {
    const chosen = new URLSearchParams();
    for (const name of names) if (form.elements[name].value) chosen.set(name, form.elements[name].value);
    if (sort) chosen.set("sort", sort);
    // An address without a fragment would load the page anew: an empty one does not.
    history.replaceState(null, "", `#${chosen}`);
    show();
  };

  const recall = () => {
    const chosen = new URLSearchParams(location.hash.slice(1));
    for (const name of names) form.elements[name].value = chosen.get(name) ?? "";
    const [, column] = /^(\d+)[ad]$/.exec(chosen.get("sort") ?? "") ?? [];
    sort = column !== undefined && +column < heads.length ? chosen.get("sort") : "";
    show();
  };

  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      sort = sort === `${index}a` ? `${index}d` : sort === `${index}d` ? "" : `${index}a`;
      remember();
    });
    head.append(button);
  });
  form.addEventListener("input", remember);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { sort = ""; remember(); }));
  addEventListener("hashchange", recall);
  form.hidden = false;
  recall();
})();
