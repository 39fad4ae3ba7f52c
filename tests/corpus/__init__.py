"""A labelled corpus: programs on a virtual clock, healthy and slow, whose traces the reports are judged by."""
