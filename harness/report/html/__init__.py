"""``index.html``: one self-contained page that opens from disk, without a network."""

from harness.report.html.page import HtmlWriter, render_page

__all__ = ["HtmlWriter", "render_page"]
