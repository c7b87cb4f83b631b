"""What `archobj` can do: one entry a command, read by cli.py; nothing is imported until it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Option:
    """A plain flag of one command, beside the gin flags; passed to its function under its name.

    Attributes:
        help: one sentence.
        type: turns the text into the value; bool makes a switch.
        default: passed when the flag is not given; None passes nothing, so that gin may bind it.
        sets: other parameters that a switch passes when on, so that gin need not bind them.
        required: whether the command cannot do without it.
        positional: whether it is given by its place and not as --NAME=VALUE; then required.
        values: number of values that follow the flag, passed as a list.
        repeated: whether the flag may be given several times; its values are passed as a list.
        instead: `module:function` that is called with this option alone, in place of the command's
            function and without gin.
    """

    help: str
    type: Callable[[str], object] = str
    default: object = None
    sets: Mapping[str, object] = field(default_factory=dict)
    required: bool = False
    positional: bool = False
    values: int | None = None
    repeated: bool = False
    instead: str | None = None


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        function: `module:function`, imported when the command runs.
        summary: half a line, for the list of commands.
        about: what it does and where results go.
        examples: (command line, what it does).
        macros: gin macros that one usually sets, with what they mean; {} for none.
        options: plain flags by name.
        gin: whether it reads gin; the parameters of `function` are then gin's to bind.
        gin_flags: whether `function` is passed `bindings`, the --gin flags, for a file of its own.
        gin_file: read before those that the user names, so that macros alone can be enough.
        keeps_config: whether `function` is passed `operative_config`, which returns the gin text
            that sets the same again.
        joins: whether several processes run it as one; it then takes the flags `JOINING`.
        saves_when_stopped: whether it acts upon SIGTERM itself.
    """

    function: str
    summary: str
    about: str
    examples: tuple[tuple[str, str], ...]
    macros: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    gin: bool = True
    gin_flags: bool = False
    gin_file: str | None = None
    keeps_config: bool = False
    joins: bool = False
    saves_when_stopped: bool = False


JOINING: Mapping[str, Option] = {
    "coordinator_address": Option("of several processes: HOST:PORT of the first one"),
    "process_count": Option("how many there are", type=int),
    "process_index": Option("which of them this one is, from 0", type=int),
    "join_timeout": Option("seconds to wait for the others (300)", type=float, default=300.0),
}
"""Flags of commands that several processes run as one; T5X's names. See `hosts.joining.join`."""

TINY = "t5x_configs/experiments/tiny/cd_flm.gin"

COMMANDS: Mapping[str, Command] = {
    "train": Command(
        function="archobj_jax.training.train:train",
        summary="pretrain, adapt or finetune a model, or go on where the same command stopped",
        about=(
            "Trains what the gin files describe: a model (architecture and size), a SeqIO task or "
            "mixture with its objective, an optimizer and a mesh. Caches the task first; "
            "the same command resumes from the newest checkpoint in MODEL_DIR, exactly. The "
            "experiments adapt_… and mtf_… start from another run's checkpoint.\n\n"
            "Writes to MODEL_DIR: checkpoints/, metrics.jsonl, TensorBoard events, config.gin "
            "(what the run used; it can be given as --gin_file again), model-info.txt and "
            "data-info.txt."
        ),
        examples=(
            (
                f"archobj train --gin_file={TINY} --gin.MODEL_DIR=runs/first",
                "a tiny causal decoder, in minutes on a laptop",
            ),
            (
                "archobj train --gin_file=t5x_configs/experiments/xxl/nd_mlm.gin --dry_run",
                "what the largest run would be: configuration, parameters, shardings, memory",
            ),
            (
                "archobj train --gin_file=t5x_configs/experiments/tiny/adapt_cd_flm_to_nd_mlm.gin "
                "--gin.INITIAL_CHECKPOINT_PATH=runs/first --gin.MODEL_DIR=runs/adapted",
                "another objective and mask, from that model",
            ),
            (
                "archobj train --gin_file=t5x_configs/experiments/base/cd_flm.gin "
                "--gin_file=my_run.gin --gin.MODEL_DIR=gs://bucket/run "
                "--gin.MIXTURE_OR_TASK_NAME=my_task --gin.MIXTURE_OR_TASK_MODULE=my_tasks",
                "a task of your own (my_tasks.py), settings of your own over a ready experiment",
            ),
        ),
        macros={
            "MODEL_DIR": "where the run lives: a folder or gs://bucket/path",
            "MIXTURE_OR_TASK_NAME": "the SeqIO task or mixture to train on",
            "MIXTURE_OR_TASK_MODULE": "the Python module that registers it",
            "TASK_FEATURE_LENGTHS": "tokens a row, e.g. {'inputs': 512, 'targets': 114}",
            "VOCAB_SIZE": "rows of the embedding table, at least the vocabulary's ids",
            "TRAIN_STEPS": "the step to train up to",
            "BATCH_SIZE": "rows a step, over all devices",
            "DROPOUT_RATE": "0.0 for pretraining",
            "INITIAL_CHECKPOINT_PATH": "of adapt_… and mtf_… experiments: the run to start from",
            "INITIAL_CHECKPOINT_RULES": "how its parameters become this model's, if they differ",
            "OPTIMIZER": "with its schedule and loss: --gin_file=t5x_configs/optimizers/adamw.gin",
        },
        options={
            "dry_run": Option(
                "print the resolved configuration, parameters with their logical axes, shardings "
                "and memory, and stop; reads no data",
                type=bool,
                sets={"model_dir": ""},
            )
        },
        keeps_config=True,
        joins=True,
        saves_when_stopped=True,
    ),
    "cache": Command(
        function="archobj_jax.data.cache:cache",
        summary="tokenise a SeqIO task once, into files that training reads",
        about=(
            "Runs a task's steps up to its CacheDatasetPlaceholder over the whole corpus, in "
            "parallel, and writes sharded ArrayRecord files with a manifest (counts, tokens, "
            "vocabulary, checksums). What is already there is kept; an interrupted cache is "
            "completed. `archobj train` does the same on first use. With --pipeline_options it "
            "runs on Apache Beam and makes the same files (docs/caching.md).\n\n"
            "Writes to CACHE_DIR (runs/cache unless set)."
        ),
        examples=(
            (
                "archobj cache --gin.MIXTURE_OR_TASK_NAME=c4_v220_full_lm",
                "C4, from TFDS, for causal language modelling",
            ),
            (f"archobj cache --gin_file={TINY}", "what an experiment will read"),
            (
                "archobj cache --gin.MIXTURE_OR_TASK_NAME=my_task "
                "--gin.MIXTURE_OR_TASK_MODULE=my_tasks --gin.CACHE_DIR=/mnt/cache",
                "a task of your own, where many hosts can read it",
            ),
            (
                "archobj cache --gin.MIXTURE_OR_TASK_NAME=c4_v220_full_lm "
                "--gin.CACHE_DIR=gs://BUCKET/cache --pipeline_options=--runner=DataflowRunner,"
                "--project=PROJECT,--region=REGION,--temp_location=gs://BUCKET/tmp",
                "on the machines of a Beam runner",
            ),
        ),
        macros={
            "MIXTURE_OR_TASK_NAME": "the SeqIO task or mixture",
            "MIXTURE_OR_TASK_MODULE": "the Python module that registers it",
            "CACHE_DIR": "the folder where caches lie (gs:// as a mounted folder, or on Beam)",
        },
        options={
            "pipeline_options": Option(
                "run on Apache Beam with these options of its own, separated by commas, as "
                "seqio_cache_tasks has them: --runner=DirectRunner,--direct_num_workers=4"
            )
        },
        gin_file="t5x_configs/runs/cache.gin",
    ),
    "plan": Command(
        function="archobj_jax.planning.plan:plan",
        summary="compile a run's step for TPUs that are not there: memory, time, cost",
        about=(
            "Compiles the training step of a run ahead of time with the TPU's own compiler "
            "(libtpu, from PyPI; no TPU is needed) and prints memory by kind, collectives by mesh "
            "axis, operations, a roofline, the predicted share of peak, tokens a day and "
            "chip-hours. --step plans evaluation, ranking or generation with that run's model "
            "instead. Reads no data.\n\n"
            "What was compiled is kept in runs/cache/plans, so that the same is quick again."
        ),
        examples=(
            (
                f"archobj plan --gin_file={TINY} --topology=v4:2x2x1",
                "a tiny model on the four chips of a v4-8, in seconds",
            ),
            (
                "archobj plan --gin_file=t5x_configs/experiments/xxl/cd_flm.gin "
                "--topology=v4:4x4x4",
                "the study's decoder on a v4-128, in a minute or two",
            ),
            (
                "archobj plan --gin_file=t5x_configs/experiments/xxl/cd_flm.gin "
                "--topology=v5p:4x4x8 --search --output=v5p_256.gin",
                "the best layout on a v5p-256, as a gin file to train with",
            ),
            (
                f"archobj plan --gin_file={TINY} --topology=v4:2x2x1 --step=generate",
                "what reading prompts and making tokens takes, and what binds them",
            ),
        ),
        options={
            "topology": Option(
                "a slice by its type, v4-128, v5p-256, v6e-256, or by its chips, v4:4x4x4",
                required=True,
            ),
            "slices": Option("how many slices, along the data axis (1)", type=int),
            "step": Option(
                "train (the default), evaluate (held-out loss), score (rank choices) or generate "
                "(read prompts, make tokens)"
            ),
            "search": Option(
                "look for the best mesh, remat policy and microbatches, write them as gin, and "
                "compare with the run's own",
                type=bool,
            ),
            "tries": Option("layouts that a search compiles (4)", type=int),
            "output": Option("where a search writes the best (runs/plans/best.gin)"),
            "json": Option("a file for the figures, as JSON"),
        },
        gin_file="t5x_configs/runs/plan.gin",
    ),
    "score": Command(
        function="archobj_jax.inference.commands:score",
        summary="print the log-likelihood of a text after another",
        about=(
            "Computes the log-likelihood, in nats, that a trained model gives to `targets` after "
            "`inputs`, by token and summed: the quantity that ranks answer choices. Prints it to "
            "standard output. The checkpoint says what model it is."
        ),
        examples=(
            (
                "archobj score --gin.CHECKPOINT_PATH=runs/demo --inputs='The list is' "
                "--targets='empty.'",
                "one pair",
            ),
            (
                "archobj score --gin.CHECKPOINT_PATH=runs/demo/checkpoints/checkpoint_200 "
                "--targets='Return a new list.'",
                "a whole text, at an earlier step",
            ),
            (
                "archobj score --gin.CHECKPOINT_PATH=gs://bucket/run --inputs='2 + 2 =' "
                "--targets='4'",
                "a checkpoint elsewhere",
            ),
        ),
        macros={"CHECKPOINT_PATH": "a run's folder (its newest checkpoint), or one checkpoint"},
        options={
            "inputs": Option("the text before; empty if not given", default=""),
            "targets": Option("the text to score", required=True),
        },
        gin_file="t5x_configs/runs/score.gin",
        joins=True,
    ),
    "generate": Command(
        function="archobj_jax.inference.commands:generate",
        summary="let a trained model continue a text",
        about=(
            "Prints what a trained model writes after a prompt, to standard output: the most "
            "likely token after token, random ones with a temperature above 0, or with beams the "
            "best text of a search. On a terminal the text appears as it is made. The checkpoint "
            "says what model it is.\n\n"
            "--prompts_file prints JSON lines: prompt, sample, text, log_likelihood (nats, under "
            "the model's own distribution), why it ended (eos, stop or length) and, of beams, the "
            "score. --interactive reads a prompt a line; Ctrl-C stops the current text, Ctrl-D "
            "ends."
        ),
        examples=(
            (
                "archobj generate --gin.CHECKPOINT_PATH=runs/demo --prompt='Return the'",
                "what the demonstration has learnt",
            ),
            (
                "archobj generate --gin.CHECKPOINT_PATH=runs/demo --prompt='Return the' "
                "--temperature=0.7 --top_k=40 --seed=1",
                "a random continuation; another seed, another text",
            ),
            (
                "archobj generate --gin.CHECKPOINT_PATH=runs/demo --interactive --temperature=0.7",
                "type prompts, see what it writes after them",
            ),
            (
                "archobj generate --gin.CHECKPOINT_PATH=runs/demo --prompts_file=prompts.txt "
                "--beams=4 --num_samples=2 --stop=. > texts.jsonl",
                "the two best texts after each line of a file, up to a full stop",
            ),
            (
                "archobj generate --gin.CHECKPOINT_PATH=gs://bucket/run/checkpoints/checkpoint_900 "
                "--prompt='Once upon a time' --max_new_tokens=200 "
                "--gin.PARTITIONER='@partitioner.Partitioner()' "
                "--gin.partitioner.Partitioner.fsdp=8",
                "a checkpoint elsewhere, at one step, on eight devices",
            ),
        ),
        macros={
            "CHECKPOINT_PATH": "a run's folder (its newest checkpoint), or one checkpoint",
            "PARTITIONER": "the mesh; None (the default) is the first device alone",
        },
        options={
            "prompt": Option("the text to go on from"),
            "prompts_file": Option("a file with a prompt a line, local or gs://"),
            "interactive": Option("read prompts from standard input", type=bool),
            "max_new_tokens": Option("tokens to write at most (64)", type=int),
            "temperature": Option("0 for the most likely token, else how random (0)", type=float),
            "top_k": Option("draw among so many most likely tokens; 0 for all (0)", type=int),
            "top_p": Option("draw among the fewest tokens of this probability (1)", type=float),
            "beams": Option("search for the best text with so many candidates", type=int),
            "length_penalty": Option(
                "of beams: log likelihoods are divided by ((5 + tokens) / 6) to this power (0.6)",
                type=float,
            ),
            "num_samples": Option("texts of each prompt (1)", type=int),
            "stop": Option("end a text before this string; repeatable", repeated=True),
            "seed": Option("of the random choices (0)", type=int),
        },
        gin_file="t5x_configs/runs/generate.gin",
        joins=True,
    ),
    "evaluate": Command(
        function="archobj_jax.evaluation.evaluate:evaluate",
        summary="evaluate a trained model zero-shot, or compare two evaluations",
        about=(
            "Ranks the answer choices of prompted tasks, computes the metrics of SeqIO tasks that "
            "have metric functions, and the loss (nats a token, bits per byte) of all others; with "
            "95% intervals. The checkpoint says what model it is. A killed evaluation goes on "
            "where it was; a task that fails is told at the end, when all others are done.\n\n"
            "Prints a table and writes <name>.json, which docs/evaluation_results.md explains, to "
            "EVAL_OUTPUT_DIR (evaluation/checkpoint_<step> in the run's folder unless set)."
        ),
        examples=(
            (
                "archobj evaluate --gin_file=t5x_configs/suites/embedded_eval.gin "
                "--gin.CHECKPOINT_PATH=runs/demo",
                "five kinds of held-out tasks that need no download",
            ),
            (
                "archobj evaluate --gin_file=t5x_configs/suites/t0_eval.gin "
                "--gin.CHECKPOINT_PATH=gs://bucket/run/checkpoints/checkpoint_141072",
                "the study's T0-Eval; PROMPTSOURCE_TEMPLATES names PromptSource's templates",
            ),
            (
                "archobj evaluate --gin.CHECKPOINT_PATH=runs/demo "
                "--gin.MIXTURE_OR_TASK_NAME=embedded_full_lm",
                "held-out loss and bits per byte of a corpus",
            ),
            (
                "archobj evaluate --compare a/embedded_eval.json b/embedded_eval.json",
                "what the second does better or worse, with intervals",
            ),
        ),
        macros={
            "CHECKPOINT_PATH": "a run's folder (its newest checkpoint), or one checkpoint",
            "MIXTURE_OR_TASK_NAME": "a SeqIO task or mixture, or a tuple of several",
            "MIXTURE_OR_TASK_MODULE": "the Python module that registers it",
            "EVAL_OUTPUT_DIR": "where results go: a folder or gs://bucket/path",
            "TASK_FEATURE_LENGTHS": "tokens at most, {'inputs': 1024, 'targets': 256}",
            "SPLIT": "of the tasks ('validation')",
            "NUM_EXAMPLES": "of each task, the first; None for all",
            "HARNESS_TASKS": "tasks of the EleutherAI harness, see docs/harness.md",
            "HARNESS_INCLUDE_PATH": "a folder with YAML files of more of them",
        },
        options={
            "compare": Option(
                "two results files: print what the second does differently, and stop",
                values=2,
                instead="archobj_jax.evaluation.compare:compare_files",
            )
        },
        gin_file="t5x_configs/runs/evaluate.gin",
        keeps_config=True,
        joins=True,
    ),
    "lineage": Command(
        function="archobj_jax.training.commands:lineage",
        summary="print where a checkpoint comes from",
        about=(
            "Prints the stages that a checkpoint went through, in the paper's notation and one a "
            "line: architecture and objective, steps, tokens counted, fingerprints of "
            "configuration and data, and the run."
        ),
        examples=(
            ("archobj lineage runs/demo", "the newest checkpoint of a run"),
            ("archobj lineage runs/demo/checkpoints/checkpoint_200", "an earlier one"),
            ("archobj lineage gs://bucket/run", "a checkpoint elsewhere"),
        ),
        options={
            "path": Option("a run's folder, or one checkpoint", required=True, positional=True)
        },
        gin=False,
    ),
    "study": Command(
        function="archobj_jax.study.commands:study",
        summary="run a grid of pretraining, adaptation, finetuning and evaluation; report on it",
        about=(
            "A gin file of t5x_configs/studies describes chains of stages in the paper's notation, "
            "sizes, seeds and evaluations (docs/study.md). `run` says what it will do, runs what "
            "is missing stage by stage, goes on where it was after a kill, and writes the report; "
            "a stage that another study ran is not run again. `status` tells where every stage "
            "stands, `report` writes the report of what is done, `commands` prints what to submit "
            "on a pod.\n\n"
            "Stages lie in STORE/stages, a study's report in STORE/studies/<name>/report."
        ),
        examples=(
            (
                "archobj study run t5x_configs/studies/demo.gin",
                "three pairs, an adaptation and finetuning in small, with a report",
            ),
            (
                "archobj study run t5x_configs/studies/demo.gin --dry_run",
                "what that would run, and what an edit of the file would run again",
            ),
            ("archobj study status t5x_configs/studies/demo.gin", "where every stage stands"),
            (
                "archobj study commands t5x_configs/studies/paper.gin --store=gs://BUCKET/study",
                "the paper's runs, as commands for a v4-128",
            ),
            (
                "archobj study run t5x_configs/studies/tiny.gin --gin.Study.seeds='(0,)'",
                "something set otherwise than in the file; status and report take the same flags",
            ),
        ),
        options={
            "action": Option("run, status, report or commands", required=True, positional=True),
            "file": Option("the study's gin file", required=True, positional=True),
            "store": Option("folder of stages and reports (runs/study)"),
            "dry_run": Option("of run: only print what it would do", type=bool),
            "beside_others": Option(
                "of run: others run this store's stages too, on devices of their own; take those "
                "that none is at",
                type=bool,
            ),
            "watch": Option("of status: print it again every five seconds", type=bool),
            "launcher": Option(
                "of commands: what goes before each, {name} in it is the stage's "
                "('launch/tpu_vm run --config=pod.toml --name={name} --'); '' for nothing"
            ),
        },
        gin=False,
        gin_flags=True,
    ),
    "demo": Command(
        function="archobj_jax.demo:demo",
        summary="train a tiny model on text that Python carries, and let it write",
        about=(
            "Trains a tiny causal decoder on Python's own documentation, a minute on two "
            "cores, then prints its held-out loss and some continuations. Needs no network and no "
            "data.\n\n"
            "Writes a run like any other to MODEL_DIR (runs/demo unless set)."
        ),
        examples=(
            ("archobj demo", "into runs/demo"),
            ("archobj demo --model_dir=runs/demo2", "into a folder of your choice"),
            ("archobj demo --model_dir=runs/demo2", "again: goes on, or lets it write once more"),
        ),
        options={"model_dir": Option("where the run lives", default="runs/demo")},
        gin=False,
    ),
}
