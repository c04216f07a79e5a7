"""Sound to int8 features: the integer front end that a device can repeat byte for byte, its float oracle, WAV files, augmentation."""

from tinykit.data.audio.frontend import AD_LOG_MEL, KWS_LOG_MEL, KWS_MFCC, FrontEnd
from tinykit.data.audio.integer import integer_features
from tinykit.data.audio.oracle import float_features, float_values

__all__ = ["AD_LOG_MEL", "KWS_LOG_MEL", "KWS_MFCC", "FrontEnd", "float_features", "float_values", "integer_features"]
