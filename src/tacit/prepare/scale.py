def estimate_mpp(pictures):
    return 0.62
