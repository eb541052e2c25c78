"""The reference systems: each a small application and the suites that show it works.

``scenarios.<system>.SCENARIO`` says which schema a system stands on and where its
suites are.  The applications use the official clients only, as an application would;
the modules beside this one are what the suites have in common.
"""
