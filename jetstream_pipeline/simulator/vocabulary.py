"""Words that the synthetic people use. Data only: no grammar, no logic."""

LANGUAGES_BY_WEIGHT = (
    ("en",) * 44
    + ("ja",) * 22
    + ("pt",) * 9
    + ("de",) * 6
    + ("es",) * 6
    + ("ko",) * 4
    + ("fr",) * 3
    + ("ar", "hi", "th", "tr", "ru", "nl")
)

PHRASES: dict[str, tuple[str, ...]] = {
    "en": (
        *(
            "good morning",
            "I really think",
            "the new album",
            "is on repeat",
            "nobody asked but",
            "this weather",
        ),
        *(
            "my cat",
            "just knocked over",
            "a whole glass of water",
            "today's sketch",
            "finally finished",
            "the game",
        ),
        *(
            "was unreal",
            "can't believe",
            "it's already summer",
            "thread below",
            "please vote",
            "coffee first",
        ),
        *(
            'what a "deal"',
            "half the timeline",
            "reading about bees",
            "on the train again",
            "we won!",
            "so tired",
        ),
        *(
            "look at this",
            "and honestly?",
            "no notes",
            "still thinking about",
            "that one scene",
            "in the rain",
        ),
        *(
            "love this community",
            "working on the garden",
            "my opinion:",
            "it depends",
            "new paper out",
            "ok but why",
        ),
    ),
    "ja": (
        *(
            "おはようございます",
            "今日は暑いですね",
            "仕事が終わった",
            "ラーメン食べたい",
            "新しい絵を描きました",
            "猫がかわいい",
        ),
        *(
            "眠い……",
            "明日も頑張ろう",
            "推しが尊い",
            "ゲームの更新が来た",
            "雨が降ってきた",
            "電車が遅れている",
        ),
        *(
            "ありがとうございます",
            "写真を撮った",
            "コーヒーを淹れる",
            "もう夏だ",
            "アニメの続きを観る",
            "お腹すいた",
        ),
    ),
    "pt": (
        *(
            "bom dia",
            "não acredito nisso",
            "hoje tem jogo",
            "que saudade",
            "meu coração",
            "a gente se fala amanhã",
        ),
        *(
            "esse filme é bom demais",
            "tô com sono",
            "café e pão de queijo",
            "olha só",
            "alguém mais?",
            "é sobre isso",
        ),
    ),
    "de": (
        *(
            "guten Morgen",
            "schönes Wochenende",
            "das Wetter ist großartig",
            "ich hätte gern Kaffee",
            "die Bahn ist",
        ),
        *(
            "natürlich verspätet",
            "neues Foto",
            "wer hätte das gedacht",
            "Grüße aus Köln",
            "übrigens",
            "läuft",
        ),
    ),
    "es": (
        *(
            "buenos días",
            "qué calor hace",
            "el partido de anoche",
            "no puedo más",
            "mañana será otro día",
            "qué risa",
        ),
        *(
            "mi canción favorita",
            "¿alguien sabe por qué?",
            "año nuevo",
            "me encanta",
            "vamos a ver",
            "al final",
        ),
    ),
    "ko": (
        *(
            "좋은 아침이에요",
            "오늘 너무 덥다",
            "커피 마시고 싶다",
            "그림 그렸어요",
            "퇴근하고 싶어",
            "고양이 사진",
        ),
        *("내일 봐요", "비가 온다", "노래 추천해 주세요", "배고프다"),
    ),
    "fr": (
        *(
            "bonjour à tous",
            "il fait très beau",
            "c'était génial",
            "encore un café",
            "à bientôt",
            "où est passé l'été",
        ),
        *("j'adore ça", "le train est en retard", "quelle journée", "ça commence"),
    ),
    "ar": (
        *("صباح الخير", "الجو جميل اليوم", "قهوة الصباح", "شكرا لكم جميعا", "مباراة رائعة", "يوم جديد"),
        *("ما رأيكم", "صورة من المدينة"),
    ),
    "hi": (
        *("शुभ प्रभात", "आज बहुत गर्मी है", "चाय पीने का समय", "क्या बात है", "नया गाना सुना", "बारिश आ गई"),
        *("मेरी बिल्ली", "धन्यवाद"),
    ),
    "th": ("สวัสดีตอนเช้า", "วันนี้ฝนตก", "หิวข้าวแล้ว", "แมวน่ารักมาก", "ขอบคุณค่ะ", "เพลงใหม่เพราะมาก"),
    "tr": (
        "günaydın",
        "hava çok güzel",
        "çay içelim mi",
        "yeni bölüm çıktı",
        "iyi geceler",
        "şimdi ne olacak",
    ),
    "ru": (
        "доброе утро",
        "наконец-то выходные",
        "кот спит на клавиатуре",
        "какая погода",
        "спасибо всем",
        "чай готов",
    ),
    "nl": ("goedemorgen", "wat een weer", "koffie eerst", "de trein rijdt niet", "mooie foto", "tot morgen"),
}

SPACELESS = frozenset({"ja", "th"})

EMOJI = ("😀", "🔥", "💦", "🐈‍⬛", "❤️", "✨", "😭", "🏳️‍🌈", "🎉", "👩🏽‍💻", "🌸", "🙏")

TAGS = (
    *(
        "art",
        "photography",
        "cats",
        "gaming",
        "イラスト",
        "科学",
        "Fußball",
        "music",
        "사진",
        "nowplaying",
        "books",
    ),
    *("Caturday", "writing", "birds", "política", "gardening"),
)

SITES = ("news.example.com", "blog.example.org", "video.example.net", "www.example.com", "papers.example.edu")

TITLES = (
    *(
        "What the river remembers",
        "Ten quiet places & how to reach them",
        "La ciudad que no duerme",
        "静かな朝の本屋",
    ),
    *(
        "Researchers count the birds of the harbour",
        "A recipe for <very> slow bread",
        "Der lange Weg nach Norden",
    ),
    *("Live: the final, minute by minute", "Why old maps are wrong", "O que fazer num dia de chuva"),
)

HANDLE_WORDS = (
    *(
        "amber",
        "birch",
        "cedar",
        "delta",
        "ember",
        "fjord",
        "grove",
        "hazel",
        "indigo",
        "juniper",
        "koala",
        "lemon",
    ),
    *(
        "maple",
        "nova",
        "otter",
        "pixel",
        "quartz",
        "raven",
        "sable",
        "tulip",
        "umber",
        "velvet",
        "willow",
        "xenon",
    ),
    *("yarrow", "zephyr", "comet", "lunar", "mango", "robin"),
)
