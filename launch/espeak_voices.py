"""The synthetic voices: speakers of `make_espeak_speech.py`.

Without espeak-ng's whispers, robots and the like. Of its variants that bear a name, those from Andy to Hugo are here
because Whisper base heard at least four fifths of the words of a phrase right in each.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Voice:
    """One speaker: an accent and a voice variant of espeak-ng, spoken at one pitch, liveliness and speed.

    `pitch` and `pitch_range` are espeak-ng's 0 to 99 (50 is the variant's own), `words_per_minute` its speaking rate.
    """

    name: str
    accent: str
    variant: str
    pitch: int
    pitch_range: int
    words_per_minute: int


VOICES = tuple(
    Voice(*fields)
    for fields in (
        ("us_m1", "en-us", "m1", 50, 50, 160), ("us_m2", "en-us", "m2", 40, 55, 150),
        ("us_m3", "en-us", "m3", 46, 60, 165), ("us_m4", "en-us", "m4", 55, 45, 155),
        ("us_m5", "en-us", "m5", 45, 60, 175), ("us_m6", "en-us", "m6", 50, 50, 145),
        ("us_m7", "en-us", "m7", 42, 65, 170), ("us_m8", "en-us", "m8", 52, 50, 160),
        ("us_f1", "en-us", "f1", 50, 50, 160), ("us_f2", "en-us", "f2", 55, 60, 170),
        ("us_f3", "en-us", "f3", 48, 55, 155), ("us_f4", "en-us", "f4", 52, 65, 165),
        ("us_f5", "en-us", "f5", 45, 50, 150), ("us_adam", "en-us", "adam", 50, 55, 165),
        ("us_alex", "en-us", "Alex", 50, 50, 160), ("us_linda", "en-us", "linda", 45, 50, 165),
        ("us_mike", "en-us", "Mike", 50, 60, 155), ("us_steph", "en-us", "steph", 48, 55, 160),
        ("us_john", "en-us", "john", 50, 50, 150), ("us_travis", "en-us", "travis", 50, 50, 160),
        ("gb_m1", "en", "m1", 44, 60, 150), ("gb_m2", "en", "m2", 52, 50, 165),
        ("gb_m3", "en", "m3", 55, 55, 155), ("gb_m4", "en", "m4", 46, 65, 170),
        ("gb_m7", "en", "m7", 50, 50, 160), ("gb_f1", "en", "f1", 55, 60, 150),
        ("gb_f2", "en", "f2", 46, 50, 165), ("gb_f4", "en", "f4", 50, 55, 155),
        ("gb_f5", "en", "f5", 54, 60, 175), ("gb_david", "en", "david", 50, 55, 160),
        ("gb_edward", "en", "edward", 50, 50, 155), ("gb_belinda", "en", "belinda", 45, 55, 160),
        ("rp_m3", "en-gb-x-rp", "m3", 40, 60, 145),
        ("rp_m5", "en-gb-x-rp", "m5", 52, 55, 160), ("rp_f3", "en-gb-x-rp", "f3", 55, 60, 160),
        ("rp_f2", "en-gb-x-rp", "f2", 42, 55, 150), ("rp_aunty", "en-gb-x-rp", "aunty", 48, 50, 150),
        ("scot_m1", "en-gb-scotland", "m1", 55, 60, 165), ("scot_m6", "en-gb-scotland", "m6", 45, 55, 155),
        ("scot_f1", "en-gb-scotland", "f1", 45, 60, 160), ("scot_f4", "en-gb-scotland", "f4", 56, 55, 170),
        ("nyc_m2", "en-us-nyc", "m2", 55, 60, 170), ("nyc_m8", "en-us-nyc", "m8", 45, 55, 160),
        ("nyc_f3", "en-us-nyc", "f3", 55, 60, 165), ("nyc_f5", "en-us-nyc", "f5", 50, 55, 160),
        ("mid_m4", "en-gb-x-gbcwmd", "m4", 50, 60, 160), ("mid_f2", "en-gb-x-gbcwmd", "f2", 50, 55, 155),
        ("lan_m7", "en-gb-x-gbclan", "m7", 46, 60, 165), ("lan_f1", "en-gb-x-gbclan", "f1", 48, 60, 155),
        ("car_m3", "en-029", "m3", 50, 60, 160), ("car_f4", "en-029", "f4", 46, 60, 160),
        ("us_andy", "en-us", "Andy", 45, 50, 160), ("us_alicia", "en-us", "Alicia", 46, 55, 160),
        ("us_mario", "en-us", "Mario", 48, 60, 170), ("us_antonio", "en-us", "antonio", 52, 60, 165),
        ("us_ed", "en-us", "ed", 48, 55, 170), ("us_max", "en-us", "max", 50, 55, 145),
        ("us_paul", "en-us", "paul", 54, 60, 160), ("us_rob", "en-us", "rob", 47, 65, 165),
        ("us_shelby", "en-us", "shelby", 47, 50, 160), ("us_victor", "en-us", "victor", 44, 50, 160),
        ("us_grandma", "en-us", "grandma", 48, 55, 150), ("us_norbert", "en-us", "norbert", 52, 60, 160),
        ("us_anika", "en-us", "anika", 42, 50, 165), ("gb_annie", "en", "Annie", 50, 60, 165),
        ("gb_benjamin", "en", "benjamin", 46, 50, 155), ("gb_marcelo", "en", "marcelo", 55, 60, 160),
        ("gb_steph2", "en", "steph2", 50, 60, 170), ("gb_ian", "en", "ian", 46, 55, 145),
        ("rp_andrea", "en-gb-x-rp", "Andrea", 48, 50, 155), ("rp_miguel", "en-gb-x-rp", "miguel", 50, 50, 155),
        ("rp_steph3", "en-gb-x-rp", "steph3", 46, 55, 150), ("rp_hugo", "en-gb-x-rp", "Hugo", 54, 50, 155),
        ("rp_m1", "en-gb-x-rp", "m1", 40, 60, 170), ("rp_f5", "en-gb-x-rp", "f5", 57, 50, 165),
        ("scot_gene", "en-gb-scotland", "Gene", 52, 60, 150),
        ("scot_edward2", "en-gb-scotland", "edward2", 50, 50, 160),
        ("scot_henrique", "en-gb-scotland", "Henrique", 54, 60, 165),
        ("scot_m3", "en-gb-scotland", "m3", 43, 50, 175), ("scot_f5", "en-gb-scotland", "f5", 58, 60, 150),
        ("nyc_gene2", "en-us-nyc", "Gene2", 55, 50, 165), ("nyc_gustave", "en-us-nyc", "gustave", 45, 55, 150),
        ("nyc_denis", "en-us-nyc", "Denis", 46, 50, 160), ("nyc_m4", "en-us-nyc", "m4", 45, 55, 150),
        ("nyc_f1", "en-us-nyc", "f1", 55, 65, 175), ("mid_lee", "en-gb-x-gbcwmd", "Lee", 50, 55, 160),
        ("mid_m1", "en-gb-x-gbcwmd", "m1", 57, 60, 170), ("mid_f5", "en-gb-x-gbcwmd", "f5", 45, 55, 150),
        ("lan_michael", "en-gb-x-gbclan", "Michael", 45, 60, 155),
        ("lan_klatt4", "en-gb-x-gbclan", "klatt4", 52, 60, 160),
        ("lan_robert", "en-gb-x-gbclan", "robert", 52, 55, 150),
        ("lan_grandpa", "en-gb-x-gbclan", "grandpa", 50, 60, 150), ("lan_m3", "en-gb-x-gbclan", "m3", 57, 50, 145),
        ("lan_f3", "en-gb-x-gbclan", "f3", 44, 60, 170), ("car_reed", "en-029", "Reed", 50, 50, 160),
        ("car_klatt6", "en-029", "klatt6", 44, 55, 165), ("car_sandro", "en-029", "sandro", 48, 60, 160),
        ("car_m7", "en-029", "m7", 56, 55, 150), ("car_f1", "en-029", "f1", 42, 60, 175),
    )
)
