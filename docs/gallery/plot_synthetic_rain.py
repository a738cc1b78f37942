"""
Synthetic rain
==============

Rain that needs no download: it moves, changes, and is dry in most places.
"""

import matplotlib.pyplot as plt

from finescale.data.synthetic import synthetic_rain

rain = synthetic_rain((1, 128, 128), seed=3)

# %%
# One frame, in mm/h.

figure, ax = plt.subplots(layout="constrained")
rain[0].plot(ax=ax, vmax=20)
ax.set_title("Synthetic rain")
