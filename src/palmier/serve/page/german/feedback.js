// Comparing, thumbs, better answers, consent.

export const FEEDBACK = {
  // what each thing did
  "used in version {versions}": "verwendet in Version {versions}",
  "used from the next improve on": "wird ab dem nächsten „improve“ verwendet",
  "kept: all answers tied, so there is no order to learn from":
    "aufbewahrt: Alle Antworten stehen gleich, also gibt es keine Reihenfolge zu lernen",
  "kept: it is used once another answer to the same message gets the opposite thumb":
    "aufbewahrt: wird verwendet, sobald eine andere Antwort auf dieselbe Nachricht den entgegengesetzten Daumen bekommt",
  "kept: it stands above no other answer; it leaves by export":
    "aufbewahrt: steht über keiner anderen Antwort; beim Export ist es dabei",
  "kept, not used: you have not agreed to its use": "aufbewahrt, nicht verwendet: Sie haben der Verwendung nicht zugestimmt",
  "taken back: not used any more": "zurückgenommen: wird nicht mehr verwendet",
  "{sentence}; version {versions} was made with it": "{sentence}; Version {versions} ist damit entstanden",
  "{what}: {sentence}": "{what}: {sentence}",
  "Thumb up": "Daumen hoch",
  "Thumb down": "Daumen runter",
  "Your answer": "Ihre Antwort",
  "Written by a person": "Von einem Menschen",
  "A tie": "Gleich gut",
  "All bad": "Alle schlecht",
  "Chosen over {names}": "Vorgezogen vor {names}",
  "Chosen over another answer of the same version": "Einer anderen Antwort derselben Version vorgezogen",
  "Chosen over {count} other answers of the same version": "{count} anderen Antworten derselben Version vorgezogen",

  // thumbs and better answers
  "Good answer": "Gute Antwort",
  "Bad answer": "Schlechte Antwort",
  "Write better": "Besser schreiben",
  "Write the answer that you would have liked: it joins the conversation":
    "Die Antwort schreiben, die besser gewesen wäre: Sie kommt ins Gespräch",
  "What was bad about it? (if you like)": "Was war schlecht daran? (freiwillig)",
  "Not true": "Stimmt nicht",
  "Not what I asked for": "Nicht das Gefragte",
  "Too long": "Zu lang",
  "Badly written": "Schlecht geschrieben",
  "The better answer": "Die bessere Antwort",
  "It becomes another answer here, and the conversation goes on from it.":
    "Sie wird hier eine weitere Antwort, und das Gespräch geht von ihr aus weiter.",
  "Keep this answer": "Diese Antwort behalten",
  Change: "Ändern",
  "The thumb is taken back.": "Der Daumen ist zurückgenommen.",

  // comparing
  Compare: "Vergleichen",
  "Draw several answers to what is written, and pick the best one":
    "Mehrere Antworten auf das Geschriebene ziehen und die beste wählen",
  "Draw several answers to the same message, and pick the best one":
    "Mehrere Antworten auf dieselbe Nachricht ziehen und die beste wählen",
  "{count} answers": "{count} Antworten",
  Draw: "Ziehen",
  Against: "Gegen",
  "no other version": "keine andere Version",
  "Whose answer is whose is told when one is chosen.": "Welche Antwort von welcher Version ist, steht da, sobald gewählt ist.",
  "How to compare": "Wie verglichen wird",
  "How to compare: {count} answers": "Wie verglichen wird: {count} Antworten",
  "How to compare: {count} answers, against version {version}": "Wie verglichen wird: {count} Antworten, gegen Version {version}",
  "Which answer is better?": "Welche Antwort ist besser?",
  "Answer {number}": "Antwort {number}",
  "Answer {number} is best": "Antwort {number} ist die beste",
  "This one is best": "Diese ist die beste",
  Tie: "Gleich gut",
  "Slightly better": "Etwas besser",
  "Clearly better": "Deutlich besser",
  "Much better": "Viel besser",
  "How much better (if you like)": "Wie viel besser (freiwillig)",
  "Why? (if you like)": "Warum? (freiwillig)",
  Confirm: "Bestätigen",
  "Nothing is stored, and the answers are thrown away": "Nichts wird gespeichert, und die Antworten werden verworfen",
  "The answers are being written: {done} of {count} are ready.": "Die Antworten werden geschrieben: {done} von {count} sind fertig.",
  "Whose answer is whose is told afterwards.": "Welche Antwort von welcher Version ist, steht danach da.",
  "Keys: 1 to {count} pick, T is a tie, B is all bad, Enter confirms.":
    "Tasten: 1 bis {count} wählen, T ist gleich gut, B ist alle schlecht, Eingabe bestätigt.",
  "The answers could not be drawn.": "Die Antworten konnten nicht gezogen werden.",
  "Cancelled: nothing was stored.": "Abgebrochen: Nichts wurde gespeichert.",
  "Choose one of the answers first, or press Cancel.": "Zuerst eine der Antworten wählen, oder „Abbrechen“ drücken.",
  "Not saved: {problem} Confirm again.": "Nicht gespeichert: {problem} Noch einmal bestätigen.",
  "The best answer is of version {version}, the others are of version {others}":
    "Die beste Antwort ist von Version {version}, die anderen sind von Version {others}",
  "The answers are of version {versions}": "Die Antworten sind von Version {versions}",

  // consent
  "May your feedback be used for training?": "Dürfen Ihre Rückmeldungen zum Training verwendet werden?",
  "Yes, use it": "Ja, verwenden",
  "No, only keep it": "Nein, nur aufbewahren",
  "Not now": "Nicht jetzt",
  "Read the question": "Die Frage lesen",
  "There is a question about your feedback above the message box.": "Über dem Nachrichtenfeld steht eine Frage zu Ihren Rückmeldungen.",
  "“My feedback” shows what becomes of it, and takes it back.":
    "„Meine Rückmeldungen“ zeigt, was daraus wird, und nimmt es zurück.",

  // “My feedback”
  "My feedback": "Meine Rückmeldungen",
  Comparisons: "Vergleiche",
  Thumbs: "Daumen",
  "Better answers": "Bessere Antworten",
  "No comparisons yet.": "Noch keine Vergleiche.",
  "No thumbs yet.": "Noch keine Daumen.",
  "No better answers yet.": "Noch keine besseren Antworten.",
  "What was given": "Was gegeben wurde",
  "Show more": "Mehr zeigen",
  "Your feedback is used to train the next version.": "Ihre Rückmeldungen werden verwendet, um die nächste Version zu trainieren.",
  "Your rankings are used; the question has new words, and the rest waits for your answer.":
    "Ihre Rangfolgen werden verwendet; die Frage hat neue Worte, und der Rest wartet auf Ihre Antwort.",
  "Your feedback is kept, and not used for training.": "Ihre Rückmeldungen werden aufbewahrt und nicht zum Training verwendet.",
  "Turn on": "Einschalten",
  "Turn off": "Ausschalten",
  "What this means": "Was das heißt",
  "Take back": "Zurücknehmen",
  "Asked: {question}": "Gefragt: {question}",
  "You have not given any feedback yet.": "Sie haben noch keine Rückmeldung gegeben.",
  "Turned on, what you have given so far is used too: {amounts}.": "Eingeschaltet wird auch verwendet, was Sie bisher gegeben haben: {amounts}.",
  "Turned off, this is not used any more: {amounts}.": "Ausgeschaltet wird nicht mehr verwendet: {amounts}.",
  "Not used any more from now on: {amounts}.": "Von jetzt an nicht mehr verwendet: {amounts}.",
  "No version has learnt from it yet.": "Noch keine Version hat daraus gelernt.",
  "What version {versions} has learnt from it stays there.": "Was Version {versions} daraus gelernt hat, bleibt dort.",
  "1 comparison": "1 Vergleich",
  "{count} comparisons": "{count} Vergleiche",
  "1 thumb": "1 Daumen",
  "{count} thumbs": "{count} Daumen",
  "1 better answer": "1 bessere Antwort",
  "{count} better answers": "{count} bessere Antworten",
};
