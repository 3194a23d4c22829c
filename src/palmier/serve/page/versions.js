// Which version answers: one from the list, or up to three side by side.

import { element } from "./element.js";
import { known, notice, title } from "./state.js";
import { say } from "./words.js";

const MOST = 3;

/** The choice of versions in the page's top; `changed` is called after each change. */
export class Versions {
  constructor(changed) {
    this.changed = changed;
    this.select = document.getElementById("version");
    this.button = document.getElementById("compare");
    this.panel = document.getElementById("compare-panel");
    this.list = document.getElementById("compare-list");
    const wanted = new URLSearchParams(location.search).get("compare") ?? "";
    this.compared = [...new Set(wanted.split(",").filter(Boolean))]; // what is too much, or unknown, is told by `update`
    this.select.addEventListener("change", () => changed());
    this.button.addEventListener("click", () => this.toggle());
  }

  /** The versions that the next message goes to; null is whichever is current. */
  get wanted() {
    return this.comparing ? [...this.compared] : [this.select.value || null];
  }

  get comparing() {
    return this.compared.length > 0;
  }

  /** Show the versions of a new state, and keep what was chosen. */
  update(state) {
    const names = state.versions.map((version) => version.name);
    const wished = this.compared;
    const found = wished.filter((name) => names.includes(name));
    this.compared = found.slice(0, MOST);
    tellMissing(names, new Set([...wished, this.select.value]));
    if (found.length > MOST) {
      const values = { most: MOST, names: this.compared.join(", ") };
      notice(say("At most {most} versions answer side by side: {names}.", values), true);
    }
    const chosen = names.includes(this.select.value) ? this.select.value : "";
    const options = [new Option(say("{name} (current)", { name: title(state.current) }), "")];
    for (const name of names.toReversed()) options.push(new Option(title(name), name));
    this.select.replaceChildren(...options);
    this.select.value = chosen;
    this.list.replaceChildren(...names.map((name) => this.checkbox(name)));
    this.show();
  }

  checkbox(name) {
    const box = element("input");
    box.type = "checkbox";
    box.value = name;
    box.addEventListener("change", () => {
      const names = [...this.list.querySelectorAll("input:checked")].map((one) => one.value);
      this.compared = names.slice(0, MOST);
      this.show();
      this.changed();
    });
    return element("label", "", box, title(name));
  }

  toggle() {
    if (this.comparing) {
      this.compared = [];
      this.panel.hidden = true;
    } else if (this.panel.hidden) {
      this.panel.hidden = false;
      const names = known().versions.map((version) => version.name);
      this.compared = names.slice(-2);
    } else {
      this.panel.hidden = true;
    }
    this.show();
    this.changed();
  }

  show() {
    if (this.comparing) this.panel.hidden = false;
    this.button.setAttribute("aria-pressed", String(this.comparing));
    this.button.setAttribute("aria-expanded", String(!this.panel.hidden));
    this.select.disabled = this.comparing;
    for (const box of this.list.querySelectorAll("input")) {
      box.checked = this.compared.includes(box.value);
      box.disabled = !box.checked && this.compared.length >= MOST;
    }
    document.body.classList.toggle("comparing", this.comparing);
  }
}

/** Say which of the `wished` versions there are not, in an address or after `palmier versions rm`. */
function tellMissing(names, wished) {
  const missing = [...wished].filter((name) => name && !names.includes(name));
  if (missing.length === 1) notice(say("Version {name} does not exist.", { name: missing[0] }), true);
  else if (missing.length) notice(say("Versions {names} do not exist.", { names: missing.join(", ") }), true);
}
