"use strict";

// Figures open at full size. Browsers follow no link to a data URL, but one to an object of the page.
for (const link of document.querySelectorAll("a.full")) {
  const [head, content] = link.querySelector("img").src.split(",");
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  link.href = URL.createObjectURL(new Blob([bytes], { type: head.slice("data:".length, head.indexOf(";")) }));
}

// A button in a column's head sorts by it: best or first on top, the other way round, and back as it was.
const isEmpty = text => text === "" || text === "-";
const NUMBER = /^[+-]?[\d.,]+(e[+-]?\d+)?(?![\w.])/; // with anything after it; but no file is a number by its name
const asNumber = text => parseFloat((text.match(NUMBER)?.[0] ?? "").replaceAll(",", ""));
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], own = [...body.rows], heads = [...[...table.tHead.rows].at(-1).cells];
  for (const head of heads.filter(each => each.textContent.trim())) {
    const button = document.createElement("button"), column = head.cellIndex;
    const textOf = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const areNumbers = own.map(textOf).every(text => isEmpty(text) || !Number.isNaN(asNumber(text)));
    const orders = areNumbers ? ["none", "descending", "ascending"] : ["none", "ascending", "descending"];
    const compare = areNumbers
      ? (one, other) => asNumber(one) - asNumber(other)
      : (one, other) => one.localeCompare(other, undefined, { numeric: true });
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const order = orders[(orders.indexOf(head.getAttribute("aria-sort")) + 1) % orders.length];
      for (const each of heads) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
      const filled = own.filter(row => !isEmpty(textOf(row))), empty = own.filter(row => isEmpty(textOf(row)));
      const sign = order === "descending" ? -1 : 1;
      if (order !== "none") filled.sort((one, other) => sign * compare(textOf(one), textOf(other)));
      body.append(...(order === "none" ? own : [...filled, ...empty])); // what is not there stays below
    });
  }
}
