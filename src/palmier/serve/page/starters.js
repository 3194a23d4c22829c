// What everybody tries first, to be begun with one press.

import { element } from "./element.js";
import { language, say } from "./words.js";

/** Fill the welcome; `send(text)` is called with the request that was chosen. */
export function offerStarters(send) {
  const requests = [
    [say("An e-mail"), say("Write a short e-mail to my landlord: the heating has been broken since Monday.")],
    [say("An explanation"), say("Explain to a six-year-old why the sky is blue.")],
    [say("Some code"), say("Write a Python function that returns the largest number in a list.")],
    [say("A few ideas"), say("Give me three ideas for a rainy Sunday with two small children.")],
  ];
  const buttons = requests.map(([kind, text]) => {
    const button = element("button", "", element("strong", "small", kind), element("span", "", text));
    button.type = "button";
    button.addEventListener("click", () => send(text));
    return button;
  });
  document.getElementById("examples").replaceChildren(...buttons);
  const weak = document.getElementById("weak-language");
  weak.hidden = language === "en";
  weak.textContent = say("The models here know little German: what is asked in English is answered better.");
}
