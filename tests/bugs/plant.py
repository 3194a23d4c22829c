"""Plant each known bug in a copy of the source and see the test that should notice it turn red.

    python tests/bugs/plant.py            all of them (some minutes)
    python tests/bugs/plant.py swapped    those whose name contains a word

A mutation is a small edit: in ``file`` the text ``old`` (which must stand there exactly once)
becomes ``new``. The repository itself is never touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutation:
    """One bug, and the tests (as pytest is told) of which at least one must fail."""

    name: str
    file: str  # below src/palmier
    old: str
    new: str
    test: str  # below tests


KL = "bugs/test_kl_with_the_wrong_sign.py"
ENTROPY = "bugs/test_entropy_with_the_wrong_sign_or_over_padding.py"
RATIO = "bugs/test_ratio_is_not_1_at_the_first_pass.py"
TEMPERATURE = "bugs/test_temperature_missing_in_the_log_probs.py"
RETOKENISED = "bugs/test_decoded_and_tokenised_again.py"
TEMPLATE = "bugs/test_another_template_in_training_than_in_serving.py"
END = "bugs/test_end_of_turn_never_learnt.py"
MASK = "bugs/test_loss_mask_empty_or_shifted.py"
SCORE = "bugs/test_reward_read_at_the_wrong_token.py"
LEAK = "bugs/test_masked_slots_leak.py"
CRITIC = "bugs/test_critic_shifted_or_masked_otherwise.py"
STALE = "bugs/test_sampler_keeps_old_weights.py"
RESUME = "bugs/test_resume_that_is_none.py"
SWAPPED = "bugs/test_chosen_and_rejected_swapped.py"
SEED = "bugs/test_seed_ignored.py"

MUTATIONS = [
    # 1 and 3: the KL
    Mutation(
        "kl sign in the estimator",
        "train/losses.py",
        "    return logprobs - reference\n",
        "    return reference - logprobs\n",
        KL,
    ),
    Mutation("kl sign in the reward", "train/advantages.py", "valid(-kl_weight * kl_BT", "valid(kl_weight * kl_BT", KL),
    Mutation(
        "kl arguments swapped in credit",
        "train/ppo.py",
        "losses.kl_k1(episodes.old_BT, episodes.reference_BT)",
        "losses.kl_k1(episodes.reference_BT, episodes.old_BT)",
        KL,
    ),
    Mutation(
        "kl left out of the credit",
        "train/ppo.py",
        "episodes.mask_BT, kl_weight)\n",
        "episodes.mask_BT, 0.0)\n",
        KL,
    ),
    Mutation(
        "k3 with the ratio inverted",
        "train/losses.py",
        "log_ratio = (reference - logprobs).clamp",
        "log_ratio = (logprobs - reference).clamp",
        KL,
    ),
    Mutation("policy loss sign", "train/losses.py", "loss=-torch.minimum(", "loss=torch.minimum(", KL),
    Mutation(
        "policy loss without a gradient",
        "train/losses.py",
        "log_ratio_BT = valid(logprobs_BT, mask_BT)",
        "log_ratio_BT = valid(logprobs_BT, mask_BT).detach()",
        f"{KL} {ENTROPY}",
    ),
    # 2: entropy
    Mutation(
        "entropy bonus sign",
        "train/ppo.py",
        "move.loss - self.settings.entropy_bonus * entropy",
        "move.loss + self.settings.entropy_bonus * entropy",
        ENTROPY,
    ),
    Mutation(
        "entropy over padding",
        "train/episodes.py",
        "return float(values_BT[self.mask_BT].mean())",
        "return float(values_BT.mean())",
        ENTROPY,
    ),
    # 4: the ratio
    Mutation(
        "reads the engine's log-probs for the trainer's",
        "train/ppo.py",
        "(own.logprobs_BT, own.entropy_BT",
        "(piece.cut(said.drawn_BT), own.entropy_BT",
        RATIO,
    ),
    Mutation(
        "dropout while it learns",
        "train/ppo.py",
        'own = token_logprobs(policy, policy(rows["tokens"]), rows',
        'own = token_logprobs(policy, torch.dropout(policy(rows["tokens"]), 0.1, True), rows',
        RATIO,
    ),
    Mutation(
        "dpo's reference read elsewhere",
        "train/dpo.py",
        '        reference_GK = self.reference_GK[groups["group"]]',
        '        reference_GK = self.reference_GK[groups["group"]].roll(1, 0)',
        RATIO,
    ),
    Mutation(
        "dpo without its reference",
        "train/losses.py",
        "return beta * (logprobs - reference)",
        "return beta * logprobs",
        f"{RATIO} train/test_dpo.py",
    ),
    # 5: temperature
    Mutation(
        "temperature missing when answers are read",
        "train/ppo.py",
        "own = token_logprobs(found.policy, found.policy(tokens_BT), targets_BT, temperature=settings.temperature)",
        "own = token_logprobs(found.policy, found.policy(tokens_BT), targets_BT)",
        TEMPERATURE,
    ),
    Mutation(
        "temperature missing in the reference",
        "train/ppo.py",
        "other = token_logprobs(found.reference, hidden_BTD, targets_BT, temperature=settings.temperature)",
        "other = token_logprobs(found.reference, hidden_BTD, targets_BT)",
        TEMPERATURE,
    ),
    Mutation(
        "temperature missing in the loss",
        "train/ppo.py",
        'rows["targets"], temperature=temperature)',
        'rows["targets"], temperature=1.0)',
        TEMPERATURE,
    ),
    # 7: ids
    Mutation(
        "answers encoded again",
        "data/template.py",
        "        if answer.tokens:\n            return list(answer.tokens)\n",
        "",
        RETOKENISED,
    ),
    # 8: template
    Mutation(
        "the reward model sees no opened turn",
        "feedback/reward.py",
        "ids = self.template.prompt(conversation) + self.template.answer_ids(answer)",
        "ids = self.template.prompt(conversation)[:-3] + self.template.answer_ids(answer)",
        TEMPLATE,
    ),
    Mutation(
        "two start tokens in rollouts",
        "generate/rollout.py",
        "prompt=tuple(template.prompt(conversation)),",
        "prompt=(1, *template.prompt(conversation)),",
        TEMPLATE,
    ),
    Mutation(
        "two start tokens in HTTP",
        "serve/live.py",
        "prompt = tuple(loaded.template.prompt(ticket.conversation))",
        "prompt = (1, *loaded.template.prompt(ticket.conversation))",
        TEMPLATE,
    ),
    # 9: the end of the turn
    Mutation(
        "the end carries no loss",
        "data/template.py",
        "mask += [0] * (len(head) + len(body) - trained) + [1] * trained",
        "mask += [0] * (len(head) + len(body) - trained) + [1] * (trained - 1) + [0] * (trained > 0)",
        END,
    ),
    Mutation(
        "a ranked answer has no end",
        "data/template.py",
        'return [*ids, self._end] if answer.finish == "stop" else ids',
        "return ids",
        END,
    ),
    # 10: the mask
    Mutation(
        "targets are the token itself",
        "train/episodes.py",
        "said = slice(len(prompt) - 1, sizes[place] - 1)",
        "said = slice(len(prompt), sizes[place])",
        f"{MASK} train/test_ppo.py",
    ),
    Mutation(
        "the mask begins one early",
        "data/template.py",
        "mask += [0] * (len(head) + len(body) - trained) + [1] * trained",
        "mask += ([0] * (len(head) + len(body) - trained - 1) + [1] * (trained + 1))[: len(head) + len(body)]",
        MASK,
    ),
    Mutation(
        "a row without anything to learn passes",
        "data/template.py",
        "        if not any(mask):\n",
        "        if not ids:\n",
        MASK,
    ),
    # 11: where the score is read
    Mutation(
        "the score at the last column",
        "model/heads.py",
        "return self._head(hidden_BTD[rows, last_B])",
        "return self._head(hidden_BTD[rows, -1])",
        SCORE,
    ),
    Mutation(
        "the score one token early",
        "feedback/reward.py",
        "last_B = torch.tensor([len(row) - 1 for row in rows], device=device)",
        "last_B = torch.tensor([len(row) - 2 for row in rows], device=device)",
        SCORE,
    ),
    Mutation(
        "training reads the score one token early",
        "train/reward_model.py",
        "self.model.scores(found.tokens_NT, found.last_N)",
        "self.model.scores(found.tokens_NT, found.last_N - 1)",
        SCORE,
    ),
    # 12: masked slots
    Mutation(
        "masked slots multiplied away",
        "train/losses.py",
        "    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))\n",
        "    return values * mask\n",
        LEAK,
    ),
    Mutation(
        "whitening over every slot",
        "train/advantages.py",
        "    picked_N = values_BT[mask_BT]\n    if",
        "    picked_N = values_BT.flatten()\n    if",
        LEAK,
    ),
    Mutation(
        "returns run through padding",
        "train/advantages.py",
        "next_value_B = torch.where(here_B, values_BT[:, t], next_value_B)",
        "next_value_B = values_BT[:, t]",
        "train/test_advantages.py",
    ),
    Mutation(
        "values of slots that stand for nothing",
        "train/losses.py",
        "    returns_BT = valid(returns_BT, mask_BT)\n    held_BT",
        "    held_BT",
        LEAK,
    ),
    Mutation(
        "missing answers of a ranking",
        "train/losses.py",
        "    scores_GK = valid(scores_GK, counts_GKK.any(2) | counts_GKK.any(1))\n",
        "",
        LEAK,
    ),
    # 14: the critic
    Mutation(
        "the critic one token ahead",
        "train/ppo.py",
        "        values_BT = found.value.values(tokens_BT)\n",
        "        values_BT = found.value.values(tokens_BT).roll(-1, 1)\n",
        CRITIC,
    ),
    Mutation(
        "the terminal value is not 0",
        "train/advantages.py",
        "    next_value_B = torch.zeros_like(rewards_BT[:, 0])\n",
        "    next_value_B = values_BT[:, -1]\n",
        CRITIC,
    ),
    Mutation(
        "GAE forgets lambda",
        "train/advantages.py",
        "advantage_B = delta_B + gamma * lam * next_advantage_B",
        "advantage_B = delta_B + gamma * next_advantage_B",
        CRITIC,
    ),
    Mutation(
        "value loss outside the answer",
        "train/ppo.py",
        'losses.clipped_value(values_BT, rows["values"], rows["returns"], mask_BT, CLIP)',
        'losses.clipped_value(values_BT, rows["values"], rows["returns"], torch.ones_like(mask_BT), CLIP)',
        CRITIC,
    ),
    Mutation(
        "the score on every token",
        "train/advantages.py",
        "torch.where(last_BT, scores_B[:, None], 0.0)",
        "torch.where(mask_BT, scores_B[:, None], 0.0)",
        "train/test_advantages.py",
    ),
    # 17: stale weights
    Mutation("a skipped hand-over", "train/ppo.py", "    engine.weights_changed()\n", "", STALE),
    Mutation(
        "nobody compares checksums",
        "train/ppo.py",
        "if run.engine.checksum() != fingerprint(run.found.policy):",
        "if not run.engine.checksum():",
        STALE,
    ),
    Mutation(
        "stale keys and values after an update",
        "generate/engine.py",
        "            row.cached = 0\n",
        "            pass\n",
        STALE,
    ),
    # 18: resume
    Mutation(
        "a resumed run forgets the moments",
        "train/optimizer.py",
        "                    if found:\n",
        "                    if not found:\n",
        RESUME,
    ),
    Mutation(
        "a resumed run begins with other answers",
        "train/ppo.py",
        "start, unit, episodes = begin(run, iteration)",
        "start, unit, episodes = begin(run, iteration if iteration == 0 else iteration + 1)",
        RESUME,
    ),
    Mutation(
        "a resumed run takes a new unit of reward",
        "train/ppo.py",
        '    unit = ScoreScale(start["mean"], start["deviation"])\n',
        '    unit = ScoreScale(start["mean"] + 1.0, start["deviation"])\n',
        RESUME,
    ),
    Mutation(
        "an option that nobody reads",
        "train/ppo.py",
        "move.loss - self.settings.entropy_bonus * entropy",
        "move.loss - 0.0 * entropy",
        RESUME,
    ),
    # the others that the issue names
    Mutation(
        "the worse answer is the better side",
        "data/pairs.py",
        "above = ranks[:, None] < ranks[None, :]",
        "above = ranks[:, None] > ranks[None, :]",
        SWAPPED,
    ),
    Mutation(
        "margins turned round",
        "train/losses.py",
        "margin_GKK = scores_GK[:, :, None] - scores_GK[:, None, :]",
        "margin_GKK = scores_GK[:, None, :] - scores_GK[:, :, None]",
        SWAPPED,
    ),
    Mutation(
        "ppo's answers ignore the seed",
        "train/asking.py",
        "return int(torch.randint(2**31, (), generator=runtime.generator(*parts)))",
        "return 0",
        SEED,
    ),
    Mutation(
        "every round asks in the same order",
        "train/asking.py",
        "    places = range(iteration * episodes, (iteration + 1) * episodes)",
        "    places = range(episodes)",
        "train/test_ppo.py",
    ),
    Mutation(
        "every prompt draws alike",
        "generate/rollout.py",
        "seed=prompt_seed(sampling.seed, i)",
        "seed=sampling.seed",
        SEED,
    ),
    Mutation(
        "the order of rankings ignores the seed",
        "train/answers.py",
        "batch=batch, seed=seed)\n    for count",
        "batch=batch, seed=0)\n    for count",
        SEED,
    ),
    Mutation(
        "dpo degenerates unnoticed",
        "train/dpo.py",
        '    if metrics["chosen_shift"] < -max_drop:\n',
        '    if metrics["chosen_shift"] < -1e9:\n',
        "train/test_dpo.py",
    ),
    Mutation(
        "a policy that runs away is not stopped",
        "train/ppo.py",
        '    if now["kl"] > settings.max_kl:\n',
        '    if now["kl"] > 1e9:\n',
        "train/test_ppo.py",
    ),
    Mutation(
        "a policy that collapses is not stopped",
        "train/ppo.py",
        '    if now["entropy"] < settings.min_entropy * start["entropy"]:\n',
        '    if now["entropy"] < 0:\n',
        "train/test_ppo.py",
    ),
    Mutation(
        "the critic is not warmed up alone",
        "train/ppo.py",
        "policy_moves=iteration >= settings.warmup",
        "policy_moves=True",
        "train/test_ppo.py",
    ),
    Mutation(
        "scores of other answers",
        "train/ppo.py",
        "torch.tensor([scores[place] for place in said.order])",
        "torch.tensor(scores)",
        "train/test_ppo.py",
    ),
]


def copy_source(target: Path) -> None:
    for name in ("src", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, target / name)


def run_tests(copy: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy against the copy's own source."""
    paths = [str(copy / "tests" / name) for name in tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not long", *paths]
    settings = {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=copy, env=os.environ | settings, capture_output=True, text=True, check=False)


def plant(mutation: Mutation, copy: Path) -> str:
    """What is wrong with the mutation or its test; empty where the test turned red."""
    path = copy / "src" / "palmier" / mutation.file
    text = path.read_text("utf-8")
    if text.count(mutation.old) != 1:
        return f"{mutation.file} holds the text to change {text.count(mutation.old)} times, not once"
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    try:
        done = run_tests(copy, mutation.test)
    finally:
        path.write_text(text, "utf-8")
    red = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    # 1 = tests ran and failed; a bug that hinders the import or the collection proves nothing.
    if done.returncode != 1 or not red or "ERROR" in done.stdout:
        return f"stayed green (pytest ended with {done.returncode})\n{done.stdout[-800:]}"
    print(
        f"red    {mutation.name}: {red[0].removeprefix('FAILED ').split(' - ')[0].rpartition('tests/')[2]}", flush=True
    )
    return ""


def main(words: list[str]) -> int:
    chosen = [m for m in MUTATIONS if all(word in m.name for word in words)]
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_source(copy)
        for mutation in chosen:
            if complaint := plant(mutation, copy):
                failures += 1
                print(f"GREEN  {mutation.name}: {complaint}", flush=True)
    print(f"{len(chosen) - failures} of {len(chosen)} planted bugs were noticed")
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
