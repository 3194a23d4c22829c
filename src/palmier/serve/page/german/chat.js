// The chat page and what both pages share.

export const CHAT = {
  // the page's frame
  "To the message box": "Zum Eingabefeld",
  Conversations: "Unterhaltungen",
  Close: "Schließen",
  "New conversation": "Neue Unterhaltung",
  "Search conversations": "Unterhaltungen durchsuchen",
  Search: "Suchen",
  "Earlier conversations": "Frühere Unterhaltungen",
  "Take in a file": "Datei einlesen",
  Appearance: "Darstellung",
  Keys: "Tasten",
  "Everything stays on this computer.": "Alles bleibt auf diesem Rechner.",
  "Conversations and feedback stay on this computer; {address} answers.":
    "Unterhaltungen und Rückmeldungen bleiben auf diesem Rechner; es antwortet {address}.",
  "The server at {address} answers.": "Es antwortet der Server unter {address}.",
  "Which version answers": "Welche Version antwortet",
  "Side by side": "Nebeneinander",
  "Rank answers": "Antworten ordnen",
  Rank: "Ordnen",
  "Versions that answer side by side": "Versionen, die nebeneinander antworten",
  "Up to three versions answer the same message beside one another.":
    "Bis zu drei Versionen beantworten dieselbe Nachricht nebeneinander.",
  "What shall I write?": "Was soll ich schreiben?",
  "I am a small language model on this computer. Short texts are what I am good for: e-mails, messages, simple explanations, small functions.":
    "Ich bin ein kleines Sprachmodell auf diesem Rechner. Ich tauge für kurze Texte: E-Mails, Nachrichten, einfache Erklärungen, kleine Funktionen.",
  "What a small model can't do": "Was ein kleines Modell nicht kann",
  "It makes things up: names, figures, quotations and sources may be wrong and sound certain.":
    "Es erfindet: Namen, Zahlen, Zitate und Quellen können falsch sein und klingen doch sicher.",
  "It counts and calculates badly, and its code must be tried before it is used.":
    "Es zählt und rechnet schlecht, und sein Code muss erprobt werden, bevor man ihn benutzt.",
  "It knows nothing of today, of you, or of your files, and can't look anything up.":
    "Es weiß nichts vom heutigen Tag, von Ihnen oder Ihren Dateien und kann nichts nachschlagen.",
  "In a long conversation it forgets: what stands far above is no longer read.":
    "In einer langen Unterhaltung vergisst es: Was weit oben steht, liest es nicht mehr.",
  "It is no adviser in matters of health, law or money.": "In Fragen von Gesundheit, Recht oder Geld ist es kein Ratgeber.",
  Conversation: "Unterhaltung",
  "Your message": "Ihre Nachricht",
  "Write a message": "Nachricht schreiben",
  Send: "Senden",
  Stop: "Anhalten",
  "A small model makes mistakes: check what matters.": "Ein kleines Modell macht Fehler: Bitte prüfen.",
  "sends,": "sendet,",
  Shift: "Umschalt",
  "begins a new line.": "beginnt eine Zeile.",

  // what everybody tries first
  "An e-mail": "Eine E-Mail",
  "Write a short e-mail to my landlord: the heating has been broken since Monday.":
    "Schreibe eine kurze E-Mail an meinen Vermieter: Die Heizung ist seit Montag kaputt.",
  "An explanation": "Eine Erklärung",
  "Explain to a six-year-old why the sky is blue.": "Erkläre einem sechsjährigen Kind, warum der Himmel blau ist.",
  "Some code": "Etwas Code",
  "Write a Python function that returns the largest number in a list.":
    "Schreibe eine Python-Funktion, die die größte Zahl einer Liste zurückgibt.",
  "A few ideas": "Ein paar Ideen",
  "Give me three ideas for a rainy Sunday with two small children.":
    "Gib mir drei Ideen für einen verregneten Sonntag mit zwei kleinen Kindern.",
  "The models here know little German: what is asked in English is answered better.":
    "Die Modelle hier können nur wenig Deutsch: Auf Englisch gefragt antworten sie besser.",

  // turns and answers
  "Question {number}": "Frage {number}",
  Answer: "Antwort",
  Edit: "Ändern",
  Copy: "Kopieren",
  Copied: "Kopiert",
  "Can't copy here": "Kopieren geht hier nicht",
  Cancel: "Abbrechen",
  "Your message, to be changed": "Ihre Nachricht, zum Ändern",
  "Becomes another branch.": "Wird ein weiterer Zweig.",
  "Wordings of this message": "Fassungen dieser Nachricht",
  "Answers to this message": "Antworten auf diese Nachricht",
  "{at} of {of}": "{at} von {of}",
  "The one before": "Die vorige",
  "The one after": "Die nächste",
  "Answer this": "Beantworten",
  Again: "Noch einmal",
  "Draw another answer to the same message": "Eine weitere Antwort auf dieselbe Nachricht holen",
  Continue: "Fortsetzen",
  "Let the answer go on from where it was cut": "Die Antwort dort fortsetzen, wo sie abbrach",
  "Draw several answers to this message and put them in order":
    "Mehrere Antworten auf diese Nachricht holen und in eine Reihenfolge bringen",
  "(It said nothing.)": "(Es kam kein Wort.)",
  "cut off: it reached the longest answer allowed": "abgeschnitten: Die längste erlaubte Antwort war erreicht",
  stopped: "angehalten",
  "{count} tokens a second": "{count} Tokens je Sekunde",
  "The answer broke off.": "Die Antwort brach ab.",
  "Wait until the answer is written, or stop it.": "Warten, bis die Antwort geschrieben ist, oder sie anhalten.",
  "Version {name} has answered.": "Version {name} hat geantwortet.",
  "The model no longer reads what stands above this line: {turns}.":
    "Was über dieser Linie steht, liest das Modell nicht mehr: {turns}.",
  "What stands above this line is no longer read by {names}: {turns}.":
    "Was über dieser Linie steht, wird von {names} nicht mehr gelesen: {turns}.",
  "1 earlier turn": "1 frühere Runde",
  "{count} earlier turns": "{count} frühere Runden",
  "There is no conversation “{number}”: this is a new one.": "Eine Unterhaltung „{number}“ gibt es nicht: Dies ist eine neue.",
  "This conversation was deleted elsewhere: this is a new one.":
    "Diese Unterhaltung wurde anderswo gelöscht: Dies ist eine neue.",
  "What you had typed is back in the message box.": "Was Sie geschrieben hatten, steht wieder im Eingabefeld.",

  // the list of conversations
  "Nothing here yet.": "Noch nichts da.",
  "Nothing found.": "Nichts gefunden.",
  "1 conversation found": "1 Unterhaltung gefunden",
  "{count} conversations found": "{count} Unterhaltungen gefunden",
  Pinned: "Angeheftet",
  Today: "Heute",
  Yesterday: "Gestern",
  "The last seven days": "Die letzten sieben Tage",
  Earlier: "Früher",
  "What to do with “{title}”": "Was mit „{title}“ geschehen soll",
  Rename: "Umbenennen",
  Pin: "Anheften",
  Unpin: "Loslösen",
  "Move to a folder": "In einen Ordner legen",
  "Save as a file (JSON)": "Als Datei sichern (JSON)",
  "Save to read (Markdown)": "Zum Lesen sichern (Markdown)",
  Delete: "Löschen",
  "Rename the conversation": "Unterhaltung umbenennen",
  Title: "Titel",
  "No folder": "Kein Ordner",
  "A new folder": "Ein neuer Ordner",
  Move: "Hineinlegen",
  "Delete this conversation?": "Diese Unterhaltung löschen?",
  "“{title}” and all of its branches are deleted for good.": "„{title}“ wird mit allen Zweigen endgültig gelöscht.",
  "What was said of its answers stays: rankings, thumbs and better answers. They can be taken back by themselves.":
    "Was über die Antworten gesagt wurde, bleibt: Reihenfolgen, Daumen und bessere Antworten. Sie lassen sich einzeln zurücknehmen.",
  "“{name}” was taken in.": "„{name}“ wurde eingelesen.",
  "“{name}” can't be taken in: {why}": "„{name}“ lässt sich nicht einlesen: {why}",
  "it is larger than 1 MiB.": "Die Datei ist größer als 1 MiB.",
  "it is no JSON file.": "Das ist keine JSON-Datei.",
  "it holds no conversation.": "Es steht keine Unterhaltung darin.",

  // a conversation's settings
  "Settings of this conversation": "Einstellungen dieser Unterhaltung",
  "Settings: this conversation has its own": "Einstellungen: Diese Unterhaltung hat eigene",
  "They hold for this conversation alone. What is left empty is as usual.":
    "Sie gelten nur für diese Unterhaltung. Was leer bleibt, ist wie üblich.",
  "System prompt: how the assistant shall behave": "System-Prompt: wie sich der Assistent verhalten soll",
  "For example: Answer in one sentence.": "Zum Beispiel: Answer in one sentence.",
  Temperature: "Temperatur",
  "higher: more varied, lower: more certain": "höher: vielfältiger, tiefer: sicherer",
  "Top-p": "Top-p",
  "draws among the likeliest tokens of this share": "wählt unter den wahrscheinlichsten Tokens dieses Anteils",
  "Top-k": "Top-k",
  "draws among so many likeliest tokens; 0: all": "wählt unter so vielen der wahrscheinlichsten Tokens; 0: allen",
  "Min-p": "Min-p",
  "drops what is less likely than this share of the likeliest":
    "lässt weg, was unter diesem Anteil des wahrscheinlichsten liegt",
  "Longest answer, in tokens": "Längste Antwort, in Tokens",
  "a token is about four letters": "ein Token sind etwa vier Buchstaben",
  "Repetition penalty": "Strafe für Wiederholung",
  "above 1: repeats itself less": "über 1: wiederholt sich weniger",
  "usual: {value}": "üblich: {value}",
  "This is no number: {name}": "Das ist keine Zahl: {name}",
  "As usual": "Wie üblich",
  Save: "Sichern",

  // how the page looks
  Theme: "Farben",
  "As the system": "Wie das System",
  Light: "Hell",
  Dark: "Dunkel",
  Language: "Sprache",

  // keys
  Ctrl: "Strg",
  or: "oder",
  "send the message": "die Nachricht senden",
  "begin a new line": "eine neue Zeile beginnen",
  "stop the answer, or close what is open": "die Antwort anhalten, oder schließen, was offen ist",
  "begin a new conversation": "eine neue Unterhaltung beginnen",
  "search the conversations": "die Unterhaltungen durchsuchen",
  "change the last message": "die letzte Nachricht ändern",
  "draw another answer to the last message": "eine weitere Antwort auf die letzte Nachricht holen",
  "copy the last answer": "die letzte Antwort kopieren",
  "open the conversation's settings": "die Einstellungen der Unterhaltung öffnen",
  "on ‹ or ›: the version before or after": "auf ‹ oder ›: die vorige oder nächste Fassung",
  "comparing: answer 1; 2, 3 and 4 likewise": "beim Vergleichen: Antwort 1; ebenso 2, 3 und 4",
  "comparing: a tie": "beim Vergleichen: gleich gut",
  "comparing: all bad": "beim Vergleichen: alle schlecht",
  "comparing: confirm the choice": "beim Vergleichen: die Wahl bestätigen",
  "in the list: the conversation above or below": "in der Liste: die Unterhaltung darüber oder darunter",
  "go to the message box": "ins Eingabefeld gehen",
  "this list": "diese Liste",

  // the page that asks for the key
  "Sign in · Palmier": "Anmelden · Palmier",
  "This server asks for its key. Whoever started it has given it one.":
    "Dieser Server verlangt seinen Schlüssel. Wer ihn gestartet hat, hat ihm einen gegeben.",
  Key: "Schlüssel",
  Open: "Öffnen",
  "This is not the key.": "Das ist nicht der Schlüssel.",

  // what the server does, and says
  "The server can't be reached. Is `palmier serve` still running?": "Der Server ist nicht zu erreichen. Läuft `palmier serve` noch?",
  "The server answered {status}.": "Der Server antwortete mit {status}.",
  "The connection broke off. What was written so far is kept.":
    "Die Verbindung brach ab. Was bis dahin geschrieben war, ist bewahrt.",
  "Version {name} answers from now on.": "Ab jetzt antwortet Version {name}.",
  "The engine has stopped: see the server's output, and start it again.":
    "Die Engine steht still: Sehen Sie in die Ausgabe des Servers, und starten Sie ihn neu.",
  "{name} is at work on this computer: answers come more slowly until it has ended.":
    "{name} arbeitet gerade auf diesem Rechner: Bis zum Ende kommen Antworten langsamer.",
  "{name} (current)": "{name} (aktuell)",
  "At most {most} versions answer side by side: {names}.": "Höchstens {most} Versionen antworten nebeneinander: {names}.",
  "Version {name} does not exist.": "Version {name} gibt es nicht.",
  "Versions {names} do not exist.": "Die Versionen {names} gibt es nicht.",

  // what answers are drawn with
  Done: "Erledigt",
  Picture: "Bild",
  Table: "Tabelle",
  "To do": "Offen",
  code: "Code",
};
