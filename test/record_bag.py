"""Made ``test/data/realsense.bag``: librealsense records ``.bag`` up to 2.57 only, this package's plays both kinds.

    pip install --no-deps --target /tmp/old pyrealsense2==2.55.1.6486
    PYTHONPATH=/tmp/old python test/record_bag.py test/data/realsense.bag

Eight views at 20 Hz from a software device, as ``camera_rig.counting_views``: depth is 500 mm and one more from view to view,
colour is gray.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pyrealsense2 as rs

HEIGHT, WIDTH, FOCAL, FPS, COUNT, BEGIN_MS = 120, 160, 300.0, 20, 8, 1_600_000_000_000.0


def stream(kind: rs.stream, format_: rs.format, bytes_per_pixel: int, uid: int) -> rs.video_stream:
    intrinsics = rs.intrinsics()
    intrinsics.height, intrinsics.width = HEIGHT, WIDTH
    intrinsics.fx = intrinsics.fy = FOCAL
    intrinsics.ppx, intrinsics.ppy = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, [0.0] * 5
    made = rs.video_stream()
    made.type, made.fmt, made.bpp, made.fps, made.index, made.uid = kind, format_, bytes_per_pixel, FPS, 0, uid
    made.height, made.width, made.intrinsics = HEIGHT, WIDTH, intrinsics
    return made


def main(path: str) -> None:
    device = rs.software_device()
    for key, text in (("name", "Software Device"), ("serial_number", "1234")):
        device.register_info(getattr(rs.camera_info, key), text)
    sensors = device.add_sensor("Stereo Module"), device.add_sensor("RGB Camera")
    described = stream(rs.stream.depth, rs.format.z16, 2, 1), stream(rs.stream.color, rs.format.rgb8, 3, 2)
    profiles = [sensor.add_video_stream(what, True).as_video_stream_profile() for sensor, what in zip(sensors, described)]
    sensors[0].add_read_only_option(rs.option.depth_units, 0.001)
    extrinsics = rs.extrinsics()
    extrinsics.rotation, extrinsics.translation = np.eye(3).reshape(-1).tolist(), [2e-5, 2e-5, 0.0]  # views.NUDGE
    profiles[0].register_extrinsics_to(profiles[1], extrinsics)
    device.create_matcher(rs.matchers.dlr_c)
    recorder, queue = rs.recorder(path, device), rs.frame_queue(100)
    for sensor, profile in zip(recorder.query_sensors(), profiles):
        sensor.open(profile)
        sensor.start(queue)
    for n in range(COUNT):
        pictures = np.full((HEIGHT, WIDTH), 500 + n, np.uint16), np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
        for sensor, profile, pixels in zip(sensors, profiles, pictures):
            frame = rs.software_video_frame()
            frame.pixels, frame.bpp, frame.stride = pixels, pixels.nbytes // (HEIGHT * WIDTH), pixels.nbytes // HEIGHT
            frame.timestamp, frame.domain, frame.frame_number = BEGIN_MS + n * 1000 / FPS, rs.timestamp_domain.system_time, n + 1
            frame.profile, frame.depth_units = profile, 0.001
            sensor.on_video_frame(frame)
        time.sleep(1 / FPS)  # the file's own clock, by which it is played in real time, is that of the recording
    time.sleep(0.5)
    for sensor in recorder.query_sensors():
        sensor.stop()
        sensor.close()
    recorder.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
