"""The report of a comparison: one page for the browser, and the same charts as pictures.

Everything here is a pure function of records; nothing loads torch or touches a model.
"""

from normlab.lab.report.figures import charts as charts
from normlab.lab.report.pngs import write_pngs as write_pngs
from normlab.lab.report.write import write_report as write_report
