"""What a run will need before it starts: memory by part, time and money, and which options make it fit."""
