"""Files that hold arrays: HDF5, NumPy, MATLAB and Zarr."""
