"""The page: its controls, and what each of them changes."""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable
from html import escape
from typing import Any, ParamSpec

import gradio as gr

from sidlsg.evaluate.teacher_scores import CFG
from sidlsg.report.page import sample_grids
from sidlsg.runtime.errors import InputError, SidlsgError, first_line
from sidlsg.runtime.formatting import counted
from sidlsg.studio.models import ChosenStudent, Models
from sidlsg.studio.pictures import message, pictures
from sidlsg.studio.sources import FoundStudent
from sidlsg.teacher.setting import Setting

PROMPT = "a photograph of an old lighthouse by the sea"
"""What a page begins with where its student knows no bundled domain."""
LONGEST = 4096
"""Maximum characters of a prompt, as of the served model."""
LARGEST_SEED = 2**31 - 1
COUNTS = (1, 4, 9, 16)
TEACHER_STEPS = (1, 4, 20, 50)
OFF = "off"
NEW_SEED = f"() => Math.floor(Math.random() * {LARGEST_SEED})"
NOW = "(_, ...rest) => [performance.now(), ...rest]"
WRITE = '(...values) => values.reduce((text, value) => text.replace("{}", value), %s)'
"""The caption of the choices' values."""
READ = """(text, ...values) => {
  const found = text.toLowerCase().trim().split(/\\s+/).join(" ").match(new RegExp("^" + %s + "$"));
  return values.map((old, i) => found && found[i + 1] !== old ? found[i + 1] : {__type__: "update"});
}"""
"""The choices' values of a caption; for any other text they stay as they are.

One that stays is no output: a value for it would undo what a visitor is typing there."""

CSS = """
.gradio-container { max-width: 1160px !important; margin: auto; }
.head h1 { font-size: 1.25rem; margin: 0; }
.head p { margin: 0; opacity: 0.75; }
.shown h2 { font-size: 1rem; margin: 0; }
.shown .time { margin: 0 0 0.5rem; }
.shown .time strong { font-size: 1.75rem; font-variant-numeric: tabular-nums; }
.shown .images { display: grid; gap: 4px; max-width: 640px; }
.shown img { width: 100%; image-rendering: pixelated; border-radius: 2px; display: block; }
.shown .message { padding: 0.75rem; border-left: 4px solid #d97706; overflow-wrap: anywhere; }
#place :is([data-testid$="-value"], div:has(> [data-testid="number-input"])) { display: none; }
.grids img { max-width: 100%; width: 398px; image-rendering: pixelated; }
"""
LOOK = {
    "css": CSS,
    # Gradio's own themes ask another host for fonts.
    "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
}

P = ParamSpec("P")


def reason(error: Exception) -> str:
    """What visitors are told about an error; one that is not the project's own is also printed."""
    if isinstance(error, SidlsgError):
        return str(error)
    # Libraries raise nearly any type, such as one for a GPU's memory.
    traceback.print_exception(error)
    return f"{type(error).__name__}: {first_line(error)}; the terminal has more"


def shown(title: str) -> Callable[[Callable[P, str]], Callable[P, str]]:
    """Make a function of HTML return its error as a message, so that the page goes on working."""

    def decorate(function: Callable[P, str]) -> Callable[P, str]:
        @functools.wraps(function)
        def call(*given: P.args, **named: P.kwargs) -> str:
            try:
                return function(*given, **named)
            except Exception as error:
                return message(reason(error), title)

        return call

    return decorate


def seeds_of(seed: float | None, count: int) -> range:
    """The seeds of a grid; raises InputError without a first one."""
    if seed is None:
        raise InputError(f"the seed is empty; give a whole number from 0 to {LARGEST_SEED}")
    return range(int(seed), int(seed) + count)


def prompt_of(text: str) -> str:
    """A prompt; raises InputError for an empty or a too long one."""
    if not text.strip():
        raise InputError("the prompt is empty; type one")
    if len(text) > LONGEST:
        raise InputError(f"the prompt has {len(text):,} characters; allowed: at most {LONGEST:,}")
    return text


def student_pictures(models: Models, sha256: str, prompt: str, seed: float | None, count: int, steps: int) -> str:
    """The student's images; raises as `Models.sample_student`."""
    student, seeds = models.student(sha256), seeds_of(seed, count)
    steps = min(steps, student.steps)  # the control still has an earlier student's for a moment
    sample = models.sample_student(sha256, prompt_of(prompt), seeds, steps)
    tokens, read = student.generator.cut(prompt)
    cut = f"The prompt has {tokens} tokens, and the text encoder reads {read}: its end is cut off."
    return pictures(student_title(steps, student.steps), sample, seeds, _notes(count)) + (
        message(cut) if tokens > read else ""
    )


def student_title(steps: int, most: int) -> str:
    """`Student, 1 step`, or `Student, step 1 of 4`."""
    return f"Student, {counted(most, 'step', 'steps') if steps == most else f'step {steps} of {most}'}"


def teacher_pictures(
    models: Models, sha256: str, prompt: str, seed: float | None, count: int, steps: int, chosen: str, scale: float
) -> str:
    """The teacher's images for the same prompt and seeds; raises as `Models.sample_teacher`.

    `steps` are the student's, with whose time the teacher's is compared, and `chosen` those of the teacher, or `OFF`.
    """
    if chosen == OFF:
        return message("", "Teacher, off")
    seeds = seeds_of(seed, count)
    setting = Setting(steps=int(chosen), guidance_scale=scale)
    sample = models.sample_teacher(sha256, prompt_of(prompt), seeds, setting)
    own = models.last_seconds(sha256, steps, count)
    ratio = sample.seconds / own if own else 0.0
    compared = f"{ratio:.{0 if ratio >= 10 else 1}f} times the student's" if ratio else ""
    return pictures(f"Teacher, {counted(setting.steps, 'step', 'steps')}", sample, seeds, _notes(count, compared))


def _notes(count: int, *others: str) -> str:
    return ", ".join(each for each in (f"for {count} images" if count > 1 else "", *others) if each)


def about(name: str, student: ChosenStudent) -> str:
    """The page's head: which student this is, and on which device."""
    record = student.found.record
    return (
        f"<h1>{escape(name)}</h1><p>Student of recipe {escape(record.recipe)} after "
        f"{counted(record.images_seen, 'image', 'images')} seen. Times are of sampling alone, from prompt to "
        f"pixels, on {escape(student.generator.device)}.</p>"
    )


def training_grid(found: FoundStudent, place: float) -> str:
    """The sample grid of a place among those of the training; empty where it has none."""
    if not found.grids:
        return ""
    grid = sample_grids([found.grids[min(int(place), len(found.grids) - 1)]], found.folder)[0]
    return (
        f'<p>{escape(grid.caption)} seen</p><img src="{grid.source}" alt="Samples after {escape(grid.caption)} seen">'
    )


def listed(models: Models) -> tuple[list[str], str]:
    """The names that may be chosen, and a message where the registry cannot be listed."""
    if not models.tracking_uri:
        return [models.first.name], ""
    from sidlsg.registry.versions import student_names  # MLflow takes seconds

    try:
        return [models.first.name, *student_names(models.tracking_uri)], ""
    except SidlsgError as error:
        return [models.first.name], message(f"The registry's versions cannot be listed: {error}")


def build(models: Models) -> gr.Blocks:
    """The page of a student and its teacher."""
    first = models.student(models.first.record.digest)
    domain = first.domain
    last = max(0, len(first.found.grids) - 1)
    names, said = listed(models)  # now, since MLflow's import would slow down the first images
    with gr.Blocks(title=f"{first.found.name}: sidlsg studio", analytics_enabled=False) as page:
        chosen = gr.State(first.found.record.digest)
        head = gr.HTML(about(first.found.name, first), elem_classes="head")
        prompt = gr.Textbox(
            domain.example.text if domain else PROMPT,
            label="Prompt",
            max_lines=1,
            max_length=LONGEST,
            autofocus=True,
        )
        with gr.Row(visible=domain is not None) as attributes:
            chosen_values = domain.values(domain.example.text) if domain else ()
            values = [
                gr.Dropdown(list(choices), value=value, label=name.capitalize(), min_width=130)
                for (name, choices), value in zip(domain.choices.items() if domain else (), chosen_values, strict=True)
            ]
        with gr.Row():
            with gr.Column(min_width=300):
                student_html = gr.HTML(elem_classes="shown", elem_id="student")
                steps = gr.Slider(
                    1, max(2, first.steps), value=first.steps, step=1, label="Student's steps", visible=first.steps > 1
                )
                version = gr.Dropdown(
                    choices=names,
                    value=first.found.name,
                    label="Registered version",
                    allow_custom_value=True,
                    visible=bool(models.tracking_uri),
                )
                note = gr.HTML(said, elem_classes="shown", elem_id="note")
            with gr.Column(min_width=300, visible=not models.without_teacher):
                teacher_html = gr.HTML(elem_classes="shown", elem_id="teacher")
                teacher_steps = gr.Radio([OFF, *map(str, TEACHER_STEPS)], value="20", label="Teacher's steps")
                scale = gr.Slider(0, 15, value=CFG, step=0.1, label="Teacher's guidance scale (1 or less: none)")
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=130)
            count = gr.Radio(COUNTS, value=1, label="Images", min_width=230)
            new_seed = gr.Button("New seed", scale=0, min_width=130)
        if models.without_teacher:
            gr.HTML(message(f"Without a teacher: {models.without_teacher}"), elem_classes="shown")
        with gr.Column(visible=bool(first.found.grids)) as training:
            place = gr.Slider(
                0, max(1, last), value=last, step=1, label="Through training, by images seen", elem_id="place"
            )
            grid = gr.HTML(training_grid(first.found, last), elem_classes="grids", elem_id="training")

        asked = [chosen, prompt, seed, count, steps]
        changes = [page.load, *(each.change for each in asked)]
        _live(changes, shown("Student")(functools.partial(student_pictures, models)), asked, student_html, "student")
        if not models.without_teacher:
            controls = [teacher_steps, scale]
            changes += [each.change for each in controls]
            teach = shown("Teacher")(functools.partial(teacher_pictures, models))
            # Dimmed while it is busy, or it would look like the image of a prompt that is newer.
            _live(changes, teach, asked + controls, teacher_html, "teacher", show_progress="minimal")
        # In the browser, without a request.
        new_seed.click(None, None, seed, js=NEW_SEED)
        through = shown("")(lambda sha256, at: training_grid(models.found[sha256], at))
        _live([place.change], through, [chosen, place], grid, "grid")
        if domain is not None:
            # In the browser too: an answer of the server may be late, and would undo a choice made meanwhile.
            write, read = WRITE % json.dumps(domain.form), READ % json.dumps(domain.pattern)
            gr.on([each.input for each in values], None, values, prompt, js=write, trigger_mode="multiple")
            prompt.change(None, [prompt, *values], values, js=read, trigger_mode="multiple")
            objection = shown("")(functools.partial(_objection, models))
            _live([prompt.change], objection, [chosen, prompt], note, "objection")

        outputs = [chosen, head, steps, attributes, training, place, grid, note]

        def choose(name: str) -> tuple[Any, ...]:
            try:
                student = models.choose(name)
            except Exception as error:
                return (*[gr.skip()] * (len(outputs) - 1), message(f"The student stays as it was: {reason(error)}"))
            grids = len(student.found.grids)
            return (
                student.found.record.digest,
                about(name, student),
                gr.Slider(maximum=max(2, student.steps), value=student.steps, visible=student.steps > 1),
                gr.Row(visible=domain is not None and student.domain is domain),
                gr.Column(visible=grids > 0),
                gr.Slider(maximum=max(1, grids - 1), value=max(0, grids - 1)),
                training_grid(student.found, grids - 1),
                "",
            )

        def versions(name: str) -> tuple[Any, ...]:
            names, said = listed(models)
            return gr.Dropdown(choices=names, value=name), said

        if models.tracking_uri:
            _live([version.input], choose, [version], outputs, "student")
            _live([page.load], versions, [version], [version, note], "versions")
    return page


def _live(
    triggers: list[Any], function: Callable[..., Any], inputs: list[Any], outputs: Any, name: str, **look: str
) -> None:
    """Call a function at each change, but only for the latest one where it is still busy with an earlier.

    Gradio sends two changes within a moment both, in any order. So each request has its time, and one that is older
    than the latest answered one is dropped.
    """
    asked_ms, last_ms = gr.Number(visible=False), gr.State(0.0)
    places = outputs if isinstance(outputs, list) else [outputs]

    def latest(asked: float, last: float, *given: Any) -> tuple[Any, ...]:
        if asked < last:
            return last, *[gr.skip()] * len(places)
        answer = function(*given)
        return asked, *(answer if isinstance(outputs, list) else [answer])

    gr.on(
        triggers,
        latest,
        [asked_ms, last_ms, *inputs],
        [last_ms, *places],
        js=NOW,
        trigger_mode="always_last",
        concurrency_limit=1,
        concurrency_id=name,
        api_visibility="private",
        **({"show_progress": "hidden"} | look),
    )


def _objection(models: Models, sha256: str, prompt: str) -> str:
    """A message where a prompt has values that exclude each other."""
    domain = models.student(sha256).domain
    return message(domain.objection(prompt)) if domain else ""
