"""Stand-in for the package ``sensor_msgs_py`` of ROS 2; only ``point_cloud2``."""
