"""What every part needs: errors, progress, processes, provenance and costs."""
