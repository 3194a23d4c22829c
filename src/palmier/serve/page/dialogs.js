// Dialogs: one at a time, closed by Escape, their button, or a press beside them; the focus goes back to where it was.

import { button, element } from "./element.js";
import { say } from "./words.js";

let count = 0;

/** Open a dialog of some elements below a title; it is taken away when it closes. `returnValue` tells how it closed. */
export function openDialog(title, ...content) {
  const before = document.activeElement;
  const heading = element("h2", "", title);
  heading.id = `dialog-title-${(count += 1)}`;
  const node = element("dialog", "", heading, ...content);
  node.setAttribute("aria-labelledby", heading.id);
  node.addEventListener("pointerdown", (event) => event.target === node && isBeside(node, event) && node.close(""));
  node.addEventListener("close", () => {
    node.remove();
    if (before?.isConnected) before.focus();
  });
  document.body.append(node);
  node.showModal();
  return node;
}

// What is pressed beside a dialog is its backdrop, which is the dialog itself to the browser.
function isBeside(node, event) {
  const box = node.getBoundingClientRect();
  return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
}

/** A row of buttons at a dialog's foot: closing, and what it is for (its submit button). */
export function footer(yes, no = say("Cancel"), kind = "primary") {
  const cancel = button("", no, () => cancel.closest("dialog").close(""));
  return element("div", "buttons end", cancel, ...(yes ? [element("button", kind, yes)] : []));
}

/** A form in a dialog; `submit(dialog)` decides about closing it. */
export function formDialog(title, content, foot, submit) {
  const form = element("form", "stack", ...content, foot);
  const node = openDialog(title, form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(node);
  });
  return node;
}

/** Ask for a yes; resolves to whether it was given. */
export function confirmed(title, sentences, yes) {
  return new Promise((resolve) => {
    const text = sentences.map((sentence) => element("p", "", sentence));
    const node = formDialog(title, text, footer(yes, say("Cancel"), "danger"), () => node.close("yes"));
    node.addEventListener("close", () => resolve(node.returnValue === "yes"));
  });
}

/** Ask for a line of text; resolves to it, or to null. */
export function askedText(title, label, value, yes) {
  return new Promise((resolve) => {
    const field = lineField(value);
    const labelled = element("label", "field", element("span", "", label), field);
    const node = formDialog(title, [labelled], footer(yes), () => field.value.trim() && node.close("yes"));
    node.addEventListener("close", () => resolve(node.returnValue === "yes" ? field.value.trim() : null));
    field.select();
  });
}

/** A field for one line, as long as the store takes it. */
export function lineField(value = "") {
  const field = element("input");
  field.type = "text";
  field.dir = "auto";
  field.value = value;
  field.maxLength = 200;
  field.autocomplete = "off";
  return field;
}
