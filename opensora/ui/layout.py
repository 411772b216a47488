"""The page: prompt first, one Generate button, the result beside it, everything else below."""

import secrets
from pathlib import Path
from typing import Any

import gradio as gr

from opensora.jobs.queue import JobQueue
from opensora.ui import again, examples, fields, handlers, improve, languages, restore, strip
from opensora.ui.browser import Browser, words_of
from opensora.ui.composer import Composer, add_composer
from opensora.ui.events import CLICKS, LATEST, NOTHING, QUIET, TO_COMPOSER, TO_PANEL, TO_RESULT
from opensora.ui.fields import FIELDS, FOLLOWING
from opensora.ui.handlers import Handlers
from opensora.ui.labels import Labels
from opensora.ui.people import answering, managing, name_of, own, pressed
from opensora.ui.room import Room
from opensora.ui.screen import Screen, add_screen
from opensora.ui.surroundings import NOTHING as PLAIN
from opensora.ui.surroundings import Surroundings, add_surroundings
from opensora.ui.wildcards import surprise
from opensora.ui.words import ENGLISH

STYLE = Path(__file__).with_name("style.css")
BROWSER_KEY = "opensora-page"


def theme() -> gr.themes.Base:
    """Colours and fonts; the fonts are those of the visitor's machine, nothing is fetched."""
    fonts = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Noto Sans KR", "sans-serif"]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        font=fonts,
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def create_demo(
    queue: JobQueue, default_model: str = "tiny", surroundings: Surroundings = PLAIN, room: Room | None = None
) -> gr.Blocks:
    """Build the page over a job queue; nothing runs until it is served."""
    acts, labels = Handlers(queue, room or Room()), Labels()
    blocks = gr.Blocks(title="Open-Sora", analytics_enabled=False, delete_cache=(3600, 86400))
    demo: Any = blocks
    with blocks:
        browser: Any = gr.BrowserState(None, storage_key=BROWSER_KEY, secret=BROWSER_KEY)
        shown: Any = gr.State({})
        timer: Any = gr.Timer(handlers.IDLE_SECONDS, active=False)
        with gr.Row(elem_classes="os-head"):
            head: Any = gr.HTML(languages.head(ENGLISH), elem_id="head", js_on_load=CLICKS)
            chip: Any = gr.HTML("", elem_id="machine")
        with gr.Row(elem_classes="os-main"):
            with gr.Column(scale=5, min_width=320, elem_classes="os-left"):
                composer = add_composer(labels, default_model)
            with gr.Column(scale=6, min_width=320, elem_classes="os-right", elem_id="result"):
                screen = add_screen()
        with gr.Column(elem_classes="os-left"):
            labels.make(gr.Markdown, {"value": "examples"}, elem_classes="os-label", elem_id="examples")
            gallery: Any = gr.HTML(examples.gallery(ENGLISH), elem_id="gallery", js_on_load=CLICKS)
        add_surroundings(labels, surroundings)
        with labels.make(gr.Accordion, {"label": "models"}, open=False, elem_id="models") as section:
            models: Any = gr.HTML("", elem_id="model-list", js_on_load=CLICKS)
            checking: Any = gr.Timer(1.0, active=False)
        keys: Any = gr.HTML(languages.keys(ENGLISH), elem_id="keys", js_on_load=None)
        page = Page(acts, labels, browser, shown, timer, composer, screen)
        page.connect_generate()
        page.connect_examples(gallery)
        page.connect_screen()
        page.connect_language(demo, head, chip, keys)
        page.connect_inputs()
        page.connect_several()
        page.connect_files()
        page.connect_models(section, models, checking)
    return blocks


class Page:
    """The components of a page while their events are connected."""

    def __init__(
        self,
        acts: Handlers,
        labels: Labels,
        browser: Any,
        shown: Any,
        timer: Any,
        composer: Composer,
        screen: Screen,
    ) -> None:
        self.acts, self.labels, self.browser, self.shown, self.timer = acts, labels, browser, shown, timer
        self.composer, self.parts, self.inputs = composer, screen, composer.inputs
        self.values = [self.inputs[name] for name in FIELDS]
        self.given = [self.inputs[name] for name in ("reference_image", "last_image", "reference_video", "lead_video")]
        self.screen = [shown, *screen.html, timer, composer.generate, composer.cancel, screen.search]
        self.acted = [browser, composer.refusal, *self.screen]
        self.held = gr.State("")

    def connect_examples(self, gallery: Any) -> None:
        """A click on an example shows what was made of it before, and fills in its settings."""
        chosen = gallery.select(
            pressed(examples.choose), [self.browser, self.shown], [self.shown, self.held, *self.values], **QUIET
        )
        self._filling(chosen)
        chosen.then(answering(self.acts.poll), [self.browser, self.shown], self.screen, **QUIET).then(
            js=TO_PANEL, **QUIET
        )

    def connect_generate(self) -> None:
        """Generate, Enter and Cancel."""
        submit: dict[str, Any] = {
            "fn": answering(self.acts.generate),
            "inputs": [self.browser, self.shown, *self.values],
            "outputs": self.acted,
            **QUIET,
        }
        generate: Any = self.composer.generate
        cancel: Any = self.composer.cancel
        prompt = self.inputs["prompt"]
        for listen in (generate.click, prompt.submit):
            listen(**submit).then(js=TO_RESULT, **QUIET)
        cancel.click(answering(self.acts.cancel), [self.browser, self.shown], self.screen, **QUIET)
        self.timer.tick(answering(self.acts.poll), [self.browser, self.shown], self.screen, **QUIET)

    def connect_screen(self) -> None:
        """Buttons in panels, and the search."""
        for panel in self.parts.clicked:
            panel.click(pressed(self.acts.act), [self.browser, self.shown], self.acted, **QUIET)
            chosen = panel.select(
                pressed(self._fill),
                [self.browser, self.shown],
                [self.shown, self.held, *self.values],
                **QUIET,
            )
            self._filling(chosen)
            chosen.then(answering(self.acts.poll), [self.browser, self.shown], self.screen, **QUIET).then(
                js=TO_COMPOSER, **QUIET
            )
        self.parts.search.input(
            answering(self.acts.search),
            [self.browser, self.shown, self.parts.search],
            self.screen,
            trigger_mode="always_last",
            **QUIET,
        )

    def connect_language(self, demo: Any, head: Any, chip: Any, keys: Any) -> None:
        """The page opens in the browser's language, and a switch changes it."""
        model, resolution = self.inputs["model"], self.inputs["resolution"]
        outputs = [self.browser, head, keys, *self.composer.strip.notes, *self.labels.components, *self.screen]

        def opened(request: gr.Request, browser: Browser | None, *values: Any) -> list[Any]:
            browser = languages.settled(own(browser, request), request.headers.get("accept-language"))
            return self._said(browser, {}, values, name_of(request), built=True)

        def switched(
            request: gr.Request, event: gr.EventData, browser: Browser | None, shown: dict[str, Any], *values: Any
        ) -> list[Any]:
            browser = languages.settled(own(browser, request), None, str(getattr(event, "language", "")))
            kept = {k: v for k, v in shown.items() if k in handlers.KEPT}
            return self._said(browser, kept, values, name_of(request))

        for event in (
            demo.load(opened, [self.browser, *self.values], outputs, **QUIET),
            head.click(switched, [self.browser, self.shown, *self.values], outputs, **QUIET),
        ):
            event.then(None, self.browser, None, js=languages.TELL, **QUIET)
            event.then(self.acts.preflight, [self.browser, *self.values], self.composer.cost, **QUIET)
            event.then(handlers.machine, self.browser, chip, **QUIET)
            event.then(
                strip.show_crop,
                [self.browser, *self.given, model, resolution, self.inputs["aspect_ratio"]],
                self.composer.strip.crop,
                **QUIET,
            )

    def _said(
        self,
        browser: Browser,
        shown: dict[str, Any],
        values: tuple[Any, ...],
        person: str,
        built: bool = False,
    ) -> list[Any]:
        """Everything that is words, in the language of the browser.

        Args:
            values: of the inputs.
            person: name of who logged in; empty where nobody has to.
            built: the page is as it was built, in English.
        """
        w = words_of(browser)
        named = dict(zip(FIELDS, values, strict=True))
        offered = fields.worded(w, named)
        if built and w is ENGLISH:
            said = self.labels.updates(None, {self.inputs["model"]: {"choices": offered["model"]}})
        else:
            said = self.labels.updates(w, {self.inputs[name]: {"choices": offered[name]} for name in offered})
        return [
            browser,
            languages.head(w, person),
            languages.keys(w),
            *strip.notes_of(w, named["model"]),
            *said,
            *self.acts.poll(browser, shown),
        ]

    def _fill(self, browser: Browser | None, shown: dict[str, Any], event: gr.EventData) -> tuple[Any, ...]:
        return again.fill(self.acts.queue, browser, shown, event)

    def connect_several(self) -> None:
        """Drafts and grids, with their costs first."""
        parts, cost = self.composer.several, self.composer.several["cost"]
        told, acts = [*parts["inputs"], *self.values], self.acts.several
        asked = [self.browser, *told]
        cost_asked = [self.browser, parts["unfolded"], *told]
        opened = parts["section"].expand(lambda: True, None, parts["unfolded"], **QUIET)
        opened.then(answering(acts.cost), cost_asked, cost, **QUIET)
        parts["section"].collapse(lambda: False, None, parts["unfolded"], **QUIET)
        for listen in (self.composer.cost.change, *(part.change for part in parts["inputs"])):
            listen(answering(acts.cost), cost_asked, cost, **LATEST)
        done = [self.browser, self.composer.refusal]
        seeds = parts["inputs"][0]
        for event in (
            parts["drafts"].click(answering(acts.drafts), [self.browser, seeds, *self.values], done, **QUIET),
            parts["all"].click(answering(acts.everything), asked, done, **QUIET),
        ):
            shown = event.then(answering(self.acts.poll), [self.browser, self.shown], self.screen, **QUIET)
            shown.then(js=TO_RESULT, **QUIET)

    def connect_files(self) -> None:
        """Settings from a file, and presets."""
        refusal, parts = self.composer.refusal, self.composer.presets
        upload: Any = self.composer.upload
        cost: Any = self.composer.cost
        self._filling(
            upload.upload(
                restore.restored, [self.browser, self.shown, upload], [self.shown, self.held, *self.values], **QUIET
            )
        )
        answer: Any = refusal
        for offer in (cost, answer):
            self._filling(offer.select(self.acts.fit, [self.browser, *self.values], [self.held, *self.values], **QUIET))
        answer.click(pressed(self.acts.act), [self.browser, self.shown], self.acted, **QUIET).then(
            js=TO_RESULT, **QUIET
        )
        kept = [self.browser, parts["list"]]
        parts["section"].expand(
            lambda browser: restore.presets(words_of(browser), browser), self.browser, parts["list"], **QUIET
        )
        parts["save"].click(restore.save, [self.browser, parts["name"], *self.values], [*kept, refusal], **QUIET)
        parts["list"].click(pressed(restore.drop), self.browser, kept, **QUIET)
        self._filling(parts["list"].select(pressed(restore.load), self.browser, [self.held, *self.values], **QUIET))

    def _filling(self, event: Any) -> None:
        """Say what an event filled in once it has: a prompt that changes wipes away what was said before."""
        event.then(lambda said: said, self.held, self.composer.refusal, **QUIET)

    def connect_models(self, section: Any, models: Any, checking: Any) -> None:
        """The list of models: looked at when it is unfolded, and while files are checked."""
        shown = [checking, models]
        check = managing(self.acts.check)
        for event in (section.expand, checking.tick, models.click):
            event(check, self.browser, shown, **QUIET)
        chosen = models.select(pressed(self.acts.act), [self.browser, self.shown], self.acted, **QUIET)
        chosen.then(check, self.browser, shown, **QUIET).then(js=TO_RESULT, **QUIET)

    def connect_inputs(self) -> None:
        """Dependent inputs, the crops and the cost follow every change."""
        inputs, browser, cost = self.inputs, self.browser, self.composer.cost
        ratio, resolution, crop = inputs["aspect_ratio"], inputs["resolution"], self.composer.strip.crop
        following = [*(inputs[name] for name in FOLLOWING), *self.composer.strip.notes]

        def choose_model(browser: Browser | None, name: str) -> list[Any]:
            w = words_of(browser)
            updates = fields.of_model(w, name)
            return [*(gr.update(**updates[field]) for field in FOLLOWING), *strip.notes_of(w, name)]

        chosen = inputs["model"].input(choose_model, [browser, inputs["model"]], following, **QUIET)
        chosen.then(self.acts.preflight, [browser, *self.values], cost, **LATEST)
        model = inputs["model"]
        resolution.change(languages.choose_resolution, [browser, model, resolution, ratio], ratio, **QUIET)
        for given in self.given:
            given.change(strip.choose_shape, [browser, *self.given, model, resolution], [ratio, crop], **LATEST)
        ratio.change(strip.show_crop, [browser, *self.given, model, resolution, ratio], crop, **LATEST)
        for name in FIELDS:
            typed = isinstance(inputs[name], gr.Textbox)
            if name != "model":  # its resolution has to follow first
                listen = inputs[name].blur if typed else inputs[name].change
                listen(self.acts.preflight, [browser, *self.values], cost, **LATEST)
            # what a person enters, not what follows from it later: that would wipe the answer to a quick click away
            entered = inputs[name].change if typed else inputs[name].input
            entered(None, None, self.composer.refusal, js=NOTHING, **QUIET)
        random: Any = self.composer.random
        random.click(surprise_of, browser, inputs["prompt"], **QUIET)
        if self.composer.improve is not None:
            improve.connect(self.composer.improve, browser, inputs["prompt"], QUIET)


def surprise_of(browser: Browser | None) -> str:
    """A prompt at random in the language of the page."""
    return surprise(words_of(browser).code, secrets.randbelow(2**31))
