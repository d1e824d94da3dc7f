"""A page as a test reads it: its elements, and the text of each section."""

from html.parser import HTMLParser

VOID = {"meta", "img", "wbr"}
BLOCKS = {"td", "th", "dt", "dd", "small", "li"}
"""They part words, without a blank in the source."""


class Page(HTMLParser):
    """The elements of a page and the text of each of its sections."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.sections, self.texts = [], [], [], {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "section":
            self.sections.append(dict(attributes)["id"])
        if tag not in VOID:
            self.open.append(tag)
        if tag in BLOCKS:
            self.handle_data(" ")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "section" in self.open:
            name = self.sections[-1]
        else:
            name = next((tag for tag in self.open if tag in ("header", "title")), "")
        self.texts[name] = self.texts.get(name, "") + data

    def text(self, section):
        return " ".join(self.texts[section].split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]
