"""Using what a run has made: searching, looking, exporting."""
