// What can be done with one of the earlier conversations.

import { patch, remember, remove } from "./api.js";
import { attempt } from "./attempt.js";
import { askedText, confirmed, footer, formDialog, lineField } from "./dialogs.js";
import { button, directed, element } from "./element.js";
import { openMenu } from "./menu.js";
import { say } from "./words.js";

/** Open the menu of a conversation of the `sidebar`'s list. */
export function openChatMenu(chat, opener, sidebar) {
  const file = (format) => `/api/conversations/${chat.id}/export?format=${format}`;
  openMenu(opener, say("What to do with “{title}”", { title: chat.title }), [
    { label: say("Rename"), run: () => rename(chat, sidebar) },
    { label: chat.pinned ? say("Unpin") : say("Pin"), run: () => change(chat, { pinned: !chat.pinned }, sidebar) },
    { label: say("Move to a folder"), run: () => move(chat, sidebar) },
    { label: say("Save as a file (JSON)"), href: file("json"), download: `conversation-${chat.id}.json` },
    { label: say("Save to read (Markdown)"), href: file("markdown"), download: `conversation-${chat.id}.md` },
    { label: say("Delete"), run: () => erase(chat, sidebar), isGrave: true },
  ]);
}

async function change(chat, notes, sidebar) {
  if (!(await attempt(() => patch(`/api/conversations/${chat.id}`, notes)))) return;
  await sidebar.list();
  sidebar.focus(chat.id, "button");
  if (chat.id === sidebar.current()) sidebar.changed();
}

async function rename(chat, sidebar) {
  const title = await askedText(say("Rename the conversation"), say("Title"), chat.title, say("Rename"));
  if (title !== null) await change(chat, { title }, sidebar);
}

/** Choose one of the folders, none, or a new one. */
function move(chat, sidebar) {
  const choose = (folder) => {
    node.close("yes");
    change(chat, { folder }, sidebar);
  };
  const choice = (words, folder) => {
    const one = directed(button("", words, () => choose(folder)));
    one.setAttribute("aria-pressed", String(folder === chat.folder));
    return one;
  };
  const known = sidebar.folders.map((name) => choice(name, name));
  const field = lineField();
  const content = [
    element("div", "choices", choice(say("No folder"), ""), ...known),
    element("label", "field", element("span", "", say("A new folder")), field),
  ];
  const submit = () => field.value.trim() && choose(field.value.trim());
  const node = formDialog(say("Move to a folder"), content, footer(say("Move")), submit);
  field.focus();
}

async function erase(chat, sidebar) {
  const sentences = [
    say("“{title}” and all of its branches are deleted for good.", { title: chat.title }),
    say("What was said of its answers stays: rankings, thumbs and better answers. They can be taken back by themselves."),
  ];
  if (!(await confirmed(say("Delete this conversation?"), sentences, say("Delete")))) return;
  if (!(await attempt(() => remove(`/api/conversations/${chat.id}`).then(() => true)))) return;
  remember(`unread.${chat.id}`, null);
  const at = sidebar.chats.findIndex((one) => one.id === chat.id);
  const next = sidebar.chats[at + 1] ?? sidebar.chats[at - 1];
  await sidebar.list();
  if (chat.id === sidebar.current()) await sidebar.open(null);
  sidebar.focus(next?.id ?? 0);
}
