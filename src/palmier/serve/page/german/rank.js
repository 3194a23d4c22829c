// The ranking page.

export const RANK = {
  "To the answers": "Zu den Antworten",
  Chat: "Gespräch",
  "Ranking as {name}": "Geordnet wird als {name}",
  "Order several answers to one request from best to worst. From many such orders, Palmier learns what you like.":
    "Ordnen Sie mehrere Antworten auf eine Bitte von der besten zur schlechtesten. Aus vielen solchen Ordnungen lernt Palmier, was Ihnen gefällt.",

  // what was given so far
  "Your rankings": "Ihre Rangfolgen",
  "1 ranking": "1 Rangfolge",
  "{count} rankings": "{count} Rangfolgen",
  "{usable} of {enough} different requests that a first improvement needs":
    "{usable} von {enough} verschiedenen Bitten, die eine erste Verbesserung braucht",
  "Rankings until an improvement is worth trying": "Rangfolgen, bis sich eine Verbesserung lohnt",
  "They may be used for training.": "Sie dürfen zum Training verwendet werden.",
  "They are kept, and never used for training.": "Sie werden aufbewahrt und nie zum Training verwendet.",
  "That is enough to try. In a terminal, run:": "Das genügt für einen Versuch. In einem Terminal:",
  "The chat goes on meanwhile, and takes the new version only if it measures better.":
    "Das Gespräch geht unterdessen weiter und übernimmt die neue Version nur, wenn sie messbar besser ist.",

  // asking
  "What shall be answered?": "Was soll beantwortet werden?",
  "Write a request of your own, or take a suggestion": "Eine eigene Bitte schreiben, oder einen Vorschlag nehmen",
  "Draw answers": "Antworten ziehen",
  "Another suggestion": "Anderer Vorschlag",
  Answers: "Antworten",
  "How many answers": "Wie viele Antworten",
  "Go on with the next suggestion by itself": "Von selbst mit dem nächsten Vorschlag weitermachen",
  "A suggestion out of this home's prompts. You may change it.":
    "Ein Vorschlag aus den Bitten dieses Verzeichnisses. Er lässt sich ändern.",
  "A suggestion out of your own chats. You may change it.": "Ein Vorschlag aus Ihren eigenen Gesprächen. Er lässt sich ändern.",
  "A suggestion out of our examples. You may change it.": "Ein Vorschlag aus unseren Beispielen. Er lässt sich ändern.",
  "With the conversation before it.": "Mit dem Gespräch davor.",

  // ordering
  "Answers to rank": "Antworten zum Ordnen",
  Request: "Bitte",
  Instructions: "Anweisungen",
  You: "Sie",
  "Version {version} is writing: {done} of {count} answers are ready.":
    "Version {version} schreibt: {done} von {count} Antworten sind fertig.",
  "The answers are ready.": "Die Antworten sind fertig.",
  "Best on top. Drag an answer by its handle, or use its buttons.":
    "Die beste nach oben: am Griff ziehen, oder mit den Knöpfen.",
  "chooses,": "wählt aus,",
  "move,": "verschieben,",
  "ties it with the one above,": "stellt sie der darüber gleich,",
  "confirms.": "bestätigt.",
  "Answer {letter}": "Antwort {letter}",
  "Move answer {letter} up": "Antwort {letter} nach oben",
  "Move answer {letter} down": "Antwort {letter} nach unten",
  "Tie answer {letter} with the one above": "Antwort {letter} der darüber gleichstellen",
  "Answer {letter}, {rank} place, {at} of {count}": "Antwort {letter}, {rank} Platz, {at} von {count}",
  "Answer {letter}, {rank} place, tied, {at} of {count}": "Antwort {letter}, {rank} Platz, gleichauf, {at} von {count}",
  "cut off": "abgeschnitten",
  tied: "gleich",
  "Show all": "Alles zeigen",
  "Show less": "Weniger zeigen",
  "Confirm order": "Reihenfolge bestätigen",
  "Yes, as it is": "Ja, so wie sie ist",
  "All are bad": "Alle schlecht",
  Skip: "Überspringen",
  "Undo the last": "Die letzte rückgängig machen",
  "Nothing was moved. If the best stands on top as it is, press “Yes, as it is”.":
    "Nichts wurde verschoben. Steht die beste schon oben, dann „Ja, so wie sie ist“ drücken.",
  "Saving …": "Wird gespeichert …",
  "Saved as your ranking number {count}.": "Gespeichert als Ihre Rangfolge Nummer {count}.",
  "Skipped: nothing was stored.": "Übersprungen: Nichts wurde gespeichert.",
  "There is no ranking to undo.": "Es gibt keine Rangfolge, die sich rückgängig machen ließe.",
  "The last ranking is undone: here it is again.": "Die letzte Rangfolge ist rückgängig gemacht: Hier steht sie wieder.",
  "The last ranking is undone.": "Die letzte Rangfolge ist rückgängig gemacht.",

  // keys
  "Ranking with the keyboard": "Ordnen mit der Tastatur",
  Space: "Leertaste",
  "choose the next answer; the one before with": "die nächste Antwort auswählen; die davor mit",
  "move the chosen answer up or down": "die gewählte Antwort nach oben oder unten verschieben",
  "put the chosen answer in this place": "die gewählte Antwort auf diesen Platz stellen",
  "tie it with the answer above, or untie it": "sie der Antwort darüber gleichstellen, oder nicht mehr",
  "show all of a long answer": "eine lange Antwort ganz zeigen",
  "confirm the order": "die Reihenfolge bestätigen",
  "all are bad (the order still counts among them)": "alle sind schlecht (ihre Reihenfolge zählt trotzdem)",
  "skip this request": "diese Bitte überspringen",
  "undo the last ranking": "die letzte Rangfolge rückgängig machen",
  "this help": "diese Hilfe",
};
