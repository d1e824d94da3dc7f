"""The studio: a live page on which a student's images appear as the prompt is typed."""
