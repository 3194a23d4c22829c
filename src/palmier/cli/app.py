"""`palmier`: every command, loaded only when it is called, so that --help answers at once.

The one place where a Refusal, or what the system refuses, becomes what a person reads: one line, exit status 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import cyclopts

from palmier import __version__
from palmier.errors import Refusal
from palmier.scale import waiting

app = cyclopts.App(
    name="palmier",
    help="Your own ChatGPT, from raw text to an assistant that people's rankings keep improving.",
    version=__version__,
    print_error=False,
    exit_on_error=False,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

GROUPS = {
    "Talk": {
        "serve": ("palmier.cli.serve:serve", "The chat and ranking pages, and the API, on this machine."),
        "chat": ("palmier.cli.chat:chat", "Talk with a model in the terminal."),
        "generate": ("palmier.cli.generate:generate", "Answers to a prompt, or to a file of prompts."),
        "fetch": ("palmier.cli.models:fetch", "Make the embedded model, SmolLM2-135M-Instruct, ready."),
        "import": ("palmier.cli.formats:import_gguf", "A GGUF file to a model's folder."),
        "export": ("palmier.cli.formats:export", "A model to a GGUF file, for llama.cpp."),
        "demo": (
            "palmier.cli.demo:demo",
            "The whole loop on a small world: text to an assistant improved by rankings.",
        ),
    },
    "Models": {
        "models": ("palmier.cli.models:models", "List the models that are here and those that can be had."),
        "pull": ("palmier.cli.models:pull", "Fetch a model from the hub, by name."),
        "rm": ("palmier.cli.models:rm", "Take a model from the home."),
    },
    "Improve": {
        "improve": (
            "palmier.cli.improve:improve",
            "Rankings to a better version, promoted only when it measures better.",
        ),
        "versions": ("palmier.cli.improve:versions_app", "List the versions, or delete one."),
        "promote": ("palmier.cli.improve:promote", "Let a version answer."),
        "rollback": ("palmier.cli.improve:rollback", "Let the version before answer again."),
        "feedback": (
            "palmier.cli.feedback:feedback_app",
            "What people said of answers: numbers, and files in the field's forms.",
        ),
    },
    "Keep": {
        "backup": ("palmier.cli.keep:backup", "A whole copy of the store, while the server runs."),
        "doctor": ("palmier.cli.keep:doctor", "Is everything in the home whole?"),
    },
    "Train": {
        "data": ("palmier.cli.data:data_app", "Texts to token shards."),
        "tokenizer": ("palmier.cli.data:tokenizer_app", "Train a tokenizer."),
        "pretrain": ("palmier.cli.train:pretrain", "Train a PaLM from shards."),
        "sft": ("palmier.cli.train:sft", "Fine-tune on conversations."),
        "dpo": ("palmier.cli.train:dpo", "Move a model by rankings, without a reward model."),
        "ppo": ("palmier.cli.train:ppo", "Move a model by a reward."),
    },
}

for group, commands in GROUPS.items():
    for name, (target, summary) in commands.items():
        app.command(target, name=name, group=group, help=summary)

reward = cyclopts.App(name="reward", help="Train a reward model, or let one sort answers.", group="Train")
reward.command("palmier.cli.train:reward_train", name="train", help="Train a reward model from rankings.")
reward.command("palmier.cli.feedback:reward_score", name="score", help="Sort answers by preference, keep the best.")
app.command(reward)


ANSWERING = ("serve", "chat", "generate")
"""Commands that people wait for beside their other programs."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    if arguments and arguments[0] in ANSWERING:
        waiting.briefly()
    try:
        result = app(arguments)
    except Refusal as refusal:
        return _fail(str(refusal))
    except cyclopts.CycloptsError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`): not an error, but nothing more can be written.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it must outlive this function
        return 0
    except OSError as error:
        # What a disk, a mount or a permission refuses; a place that knows more has made a Refusal of it.
        return _fail(f"{error.filename or 'a file'} can not be used: {error.strerror or error}")
    return result if isinstance(result, int) else 0


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def _fail(text: str) -> int:
    print("palmier: " + " ".join(text.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
