package textbundle

import java.text.Normalizer

/** A set of code points, read from ranges in hexadecimal such as `0-8 b-c e-1f`. */
internal class CodePoints(ranges: String) {
  private val ends = ranges.trim().split(Regex("\\s+")).map { range ->
    range.split('-').map { it.toInt(16) }
  }
  private val firsts = ends.map { it.first() }.toIntArray()
  private val lasts = ends.map { it.last() }.toIntArray()

  operator fun contains(code: Int): Boolean {
    val found = firsts.binarySearch(code)
    val index = if (found >= 0) found else -found - 2
    return index >= 0 && code <= lasts[index]
  }
}

/**
 * The tokenizer of an uncased BERT: the ids of Hugging Face's `tokenizers`, from a vocab.txt.
 *
 * Check it with the bundle's tokenization.json before you trust it: [TextBundle] does.
 *
 * @param vocabulary the lines of vocab.txt; a token's id is its place.
 * @param maxLength tokens that longer texts are cut to, special ones included; 2 or more.
 * @param unknown the token of what is not in the vocabulary.
 * @param start, end the tokens around a text.
 * @param special tokens that stand for themselves where they are written in a text.
 */
class BertTokenizer(
  vocabulary: List<String>,
  private val maxLength: Int,
  unknown: String = "[UNK]",
  start: String = "[CLS]",
  end: String = "[SEP]",
  special: Collection<String> = listOf("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
) {
  private val ids = vocabulary.withIndex().associate { (id, token) -> token to id }
  private val unknownId = idOf(unknown)
  private val startId = idOf(start)
  private val endId = idOf(end)
  private val written =
    Regex(special.sortedByDescending { it.length }.joinToString("|") { Regex.escape(it) })

  init {
    require(maxLength >= 2) {
      "maxLength must leave room for two special tokens. Received: $maxLength. Pass 2 or more."
    }
    require(special.isNotEmpty()) { "special must name the special tokens. Received: none." }
  }

  private fun idOf(token: String) =
    requireNotNull(ids[token]) { "The vocabulary must hold $token. Pass the model's own vocab.txt." }

  /** The ids of a text, with special tokens, cut to [maxLength]. */
  fun encode(text: String): IntArray {
    val found = mutableListOf<Int>()
    var done = 0
    for (match in written.findAll(text)) {
      encodePlain(text.substring(done, match.range.first), found)
      found += idOf(match.value)
      done = match.range.last + 1
    }
    encodePlain(text.substring(done), found)
    return intArrayOf(startId, *found.take(maxLength - 2).toIntArray(), endId)
  }

  private fun encodePlain(text: String, found: MutableList<Int>) {
    val word = StringBuilder()
    fun finish() {
      if (word.isNotEmpty()) encodeWord(word.toString(), found)
      word.clear()
    }
    for (code in normalize(text).codePoints()) {
      val alone = code in UnicodeTables.punctuation
      if (alone || code == ' '.code) finish()
      if (code != ' '.code) word.appendCodePoint(code)
      if (alone) finish()
    }
    finish()
  }

  /** The longest pieces of a word from left to right; unknown where that fails. */
  private fun encodeWord(word: String, found: MutableList<Int>) {
    val length = word.codePointCount(0, word.length)
    val pieces = mutableListOf<Int>()
    var start = 0
    while (start < word.length && length <= LONGEST_WORD) {
      val prefix = if (start > 0) CONTINUES else ""
      var end = word.length
      while (end > start && prefix + word.substring(start, end) !in ids) {
        end = word.offsetByCodePoints(end, -1)
      }
      if (end == start) break
      pieces += ids.getValue(prefix + word.substring(start, end))
      start = end
    }
    if (start == word.length) found += pieces else found += unknownId
  }

  companion object {
    private const val LONGEST_WORD = 100
    private const val CONTINUES = "##"

    /**
     * What BERT makes of a text before it cuts it into words: no control characters, one kind of
     * space, Chinese characters apart, no accents, lower case.
     */
    fun normalize(text: String): String {
      val clean = StringBuilder()
      for (code in text.codePoints()) {
        when {
          code in UnicodeTables.removed || code in 0xd800..0xdfff -> {}
          isSpace(code) -> clean.append(' ')
          isChinese(code) -> clean.append(' ').appendCodePoint(code).append(' ')
          else -> clean.appendCodePoint(code)
        }
      }
      val bare = StringBuilder()
      for (code in Normalizer.normalize(clean, Normalizer.Form.NFD).codePoints()) {
        // A character at a time: none depends on its neighbours, as the final sigma would.
        if (code !in UnicodeTables.marks) bare.appendCodePoint(Character.toLowerCase(code))
      }
      return bare.toString()
    }

    private fun isSpace(code: Int) =
      code == 9 || code == 10 || code == 13 || Character.isSpaceChar(code)

    /** As `tokenizers` has it: without U+2B820 to U+2B91F. */
    private fun isChinese(code: Int) =
      code in 0x4e00..0x9fff || code in 0x3400..0x4dbf || code in 0xf900..0xfaff ||
        code in 0x20000..0x2a6df || code in 0x2a700..0x2b81f || code in 0x2b920..0x2ceaf ||
        code in 0x2f800..0x2fa1f
  }
}
