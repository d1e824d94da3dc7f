"""The recipes that make the bundled assets: the tiny teacher, and the judge that scores its students."""
