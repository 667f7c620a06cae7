"""Studies: many runs that differ in one choice, measured alike and compared with a control.

Data flows one way: `plan` (what to run, from yaml), `runs` (pretraining), `measures` (results of policies), `table`
(CSV and statistics), `figures` and `page`.
"""
