"""What a run says about itself: report.html. `report.write_report` is the way in."""
