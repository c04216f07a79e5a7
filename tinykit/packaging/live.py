"""Live sketches: one for the sensor of the Nano 33 BLE Sense that a network's input fits."""

from tinykit.packaging import sensors
from tinykit.packaging.package import Package

BOARD = "nano33ble"


def live_sketches(package: Package) -> dict[str, str | bytes]:
    """The sketch for the microphone, the inertial sensor or the camera; none where the input fits no sensor, or the board has none."""
    interface = package.network.interface
    if package.board.name != BOARD:
        return {}
    front_end = sensors.front_end_of(interface)
    if front_end is not None:
        return _sketch(package, "LiveAudio", "live_audio", "sensor_pdm.h", front_end=front_end)
    motion = sensors.motion_of(interface)
    if motion is not None:
        return _sketch(package, "LiveMotion", "live_motion", "sensor_imu.h", readings=motion[0], axes=motion[1])
    picture = sensors.picture_of(interface)
    if picture is not None:
        height, width, channels = picture
        scale = min(sensors.CAMERA[0] / width, sensors.CAMERA[1] / height)
        values = {"height": height, "width": width, "channels": channels, "part": (int(width * scale), int(height * scale))}
        return _sketch(package, "LiveCamera", "live_camera", "sensor_ov7675.h", **values, pixels=sensors.pixel_table(interface))
    return {}


def live_sources(package: Package) -> dict[str, str | bytes]:
    """What the library needs for the live sketch: the audio front end, in C."""
    front_end = sensors.front_end_of(package.network.interface)
    if package.board.name != BOARD or front_end is None:
        return {}
    name, values = package.network.name, sensors.frontend_values(front_end)
    return {
        f"{name}_frontend.h": package.render("library/frontend.h.jinja", **values),
        f"{name}_frontend.c": package.render("library/frontend.c.jinja", **values),
    }


def _sketch(package: Package, sketch: str, template: str, sensor: str, **values: object) -> dict[str, str | bytes]:
    return {
        f"{sketch}/{sketch}.ino": package.render(f"apps/{template}.jinja", **values),
        f"{sketch}/{sensor}": package.plain(f"apps/{sensor}"),
        f"{sketch}/tk_port.h": package.plain("arduino/tk_port.h"),
        f"{sketch}/tk_text.h": package.plain("common/tk_text.h"),
    }
