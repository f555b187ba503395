"""SoundStream: waveform to acoustic tokens and back."""
