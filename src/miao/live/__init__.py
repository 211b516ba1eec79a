"""The live instrument: keyboards and files to sound at once."""
