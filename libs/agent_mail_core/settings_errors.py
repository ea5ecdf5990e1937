"""What is raised for settings that cannot be used: a module of its own, as what reads parts of them raises it too."""


class SettingsError(Exception):
    """The settings are not usable; the message names each and says why."""
