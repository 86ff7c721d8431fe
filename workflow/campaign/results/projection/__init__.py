"""Times at rank counts that were not measured, with intervals: projected values, apart from all measurements."""
