"""InSeGAN (Cherian et al., ICCV 2021): identical parts from unlabelled depth images alone."""
