"""The camera node: what realsense2_camera 4.x publishes, from a RealSense device, a recording of one, or a software device."""
