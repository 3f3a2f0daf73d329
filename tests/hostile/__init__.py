"""The program against damaged files, full disks, kill -9 and crowds; run by `python -m`."""
