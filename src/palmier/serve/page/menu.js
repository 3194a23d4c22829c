// A small menu that hangs at a button: arrows walk, Enter chooses, Escape or a press beside it closes.

import { element } from "./element.js";

const EDGE = 8; // pixels that stay free towards the window's edge

/** Open a menu of items {label, run} or {label, href, download}; `isGrave` marks what can't be undone. */
export function openMenu(button, label, items) {
  if (button.popoverTargetElement) return; // the browser closes it now
  const node = element("div", "menu");
  node.append(...items.map((item) => menuItem(item, node)));
  node.setAttribute("role", "menu");
  node.setAttribute("aria-label", label);
  node.addEventListener("keydown", (event) => walk(event, node));
  hang(node, button);
  node.firstElementChild.focus();
}

/** Show an element in the layer above everything, at a button, until it is closed; it is taken away then. */
export function hang(node, button) {
  node.popover = "auto";
  document.body.append(node);
  button.setAttribute("aria-expanded", "true");
  node.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    button.setAttribute("aria-expanded", "false");
    button.popoverTargetElement = null;
    const hadFocus = node.contains(document.activeElement) || document.activeElement === document.body;
    node.remove();
    if (hadFocus && button.isConnected) button.focus();
  });
  node.showPopover();
  setTimeout(() => (button.popoverTargetElement = node)); // from now on a press on the button closes it
  const at = button.getBoundingClientRect();
  const own = node.getBoundingClientRect();
  const below = at.bottom + 4;
  const isRoomBelow = below + own.height + EDGE <= innerHeight;
  node.style.left = `${Math.max(EDGE, Math.min(at.left, innerWidth - own.width - EDGE))}px`;
  node.style.top = `${isRoomBelow ? below : Math.max(EDGE, at.top - own.height - 4)}px`;
}

function menuItem({ label, run, href, download, isGrave }, menu) {
  const node = element(href ? "a" : "button", isGrave ? "grave" : "", label);
  node.setAttribute("role", "menuitem");
  node.tabIndex = -1;
  if (href) Object.assign(node, { href, download });
  node.addEventListener("click", () => {
    menu.hidePopover(); // first: the focus goes back to the button, and a dialog returns it there
    run?.();
  });
  return node;
}

function walk(event, node) {
  const items = [...node.children];
  const at = items.indexOf(document.activeElement);
  const places = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 };
  if (event.key === "Tab") node.hidePopover();
  if (!(event.key in places)) return;
  event.preventDefault();
  items.at(places[event.key] % items.length).focus();
}
