import Foundation

/// A set of code points, read from ranges in hexadecimal such as `0-8 b-c e-1f`.
struct CodePoints {
  private let ranges: [ClosedRange<UInt32>]

  init(_ text: String) {
    ranges = text.split(whereSeparator: \.isWhitespace).map { range in
      let ends = range.split(separator: "-").compactMap { UInt32($0, radix: 16) }
      return ends[0]...ends[ends.count - 1]
    }
  }

  func contains(_ code: UInt32) -> Bool {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < code { low = middle + 1 } else { high = middle }
    }
    return low < ranges.count && ranges[low].contains(code)
  }
}

/// What a bundle, or a text for it, is not.
struct BundleError: LocalizedError {
  let errorDescription: String?

  init(_ description: String) { errorDescription = description }
}

/// The tokenizer of an uncased BERT: the ids of Hugging Face's `tokenizers`, from a vocab.txt.
///
/// Check it with the bundle's tokenization.json before you trust it: `TextBundle` does. Words are
/// arrays of scalars, since strings that differ only in how accents are written are equal in Swift.
struct BertTokenizer {
  typealias Word = [Unicode.Scalar]

  private static let longestWord = 100
  private static let continues = Word("##".unicodeScalars)

  private let ids: [Word: Int32]
  private let special: [Word]
  private let unknown: Int32
  private let start: Int32
  private let end: Int32
  private let maxLength: Int

  /// - Parameters:
  ///   - vocabulary: the text of vocab.txt; a token's id is its line.
  ///   - maxLength: tokens that longer texts are cut to, special ones included; 2 or more.
  ///   - unknown: the token of what is not in the vocabulary.
  ///   - start, end: the tokens around a text.
  ///   - special: tokens that stand for themselves where they are written in a text.
  init(
    vocabulary: String,
    maxLength: Int,
    unknown: String = "[UNK]",
    start: String = "[CLS]",
    end: String = "[SEP]",
    special: [String] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  ) throws {
    var ids: [Word: Int32] = [:]
    let lines = vocabulary.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
    for (id, line) in lines.enumerated() where ids[Word(line)] == nil {
      ids[Word(line)] = Int32(id)
    }
    func id(_ token: String) throws -> Int32 {
      guard let id = ids[Word(token.unicodeScalars)] else {
        throw BundleError("The vocabulary must hold \(token). Pass the model's own vocab.txt.")
      }
      return id
    }
    guard maxLength >= 2 else {
      throw BundleError("maxLength must be 2 or more. Received: \(maxLength).")
    }
    self.unknown = try id(unknown)
    self.start = try id(start)
    self.end = try id(end)
    _ = try special.map(id)
    self.special = special.map { Word($0.unicodeScalars) }.sorted { $0.count > $1.count }
    self.ids = ids
    self.maxLength = maxLength
  }

  /// The ids of a text, with special tokens, cut to `maxLength`.
  func encode(_ text: String) -> [Int32] {
    let scalars = Word(text.unicodeScalars)
    var found: [Int32] = []
    var done = 0
    var place = 0
    while place < scalars.count {
      if let token = special.first(where: { scalars[place...].starts(with: $0) }) {
        encodePlain(scalars[done..<place], into: &found)
        found.append(ids[token]!)
        place += token.count
        done = place
      } else {
        place += 1
      }
    }
    encodePlain(scalars[done...], into: &found)
    return [start] + found.prefix(maxLength - 2) + [end]
  }

  private func encodePlain(_ text: ArraySlice<Unicode.Scalar>, into found: inout [Int32]) {
    var word: Word = []
    for scalar in Self.normalize(text) {
      let isAlone = UnicodeTables.punctuation.contains(scalar.value)
      if isAlone || scalar == " " {
        encodeWord(word, into: &found)
        word = []
      }
      if isAlone {
        encodeWord([scalar], into: &found)
      } else if scalar != " " {
        word.append(scalar)
      }
    }
    encodeWord(word, into: &found)
  }

  /// The longest pieces of a word from left to right; unknown where that fails.
  private func encodeWord(_ word: Word, into found: inout [Int32]) {
    guard word.count <= Self.longestWord else {
      found.append(unknown)
      return
    }
    var pieces: [Int32] = []
    var start = 0
    while start < word.count {
      let prefix = start > 0 ? Self.continues : []
      var end = word.count
      while end > start, ids[prefix + word[start..<end]] == nil { end -= 1 }
      guard end > start, let id = ids[prefix + word[start..<end]] else {
        found.append(unknown)
        return
      }
      pieces.append(id)
      start = end
    }
    found += pieces
  }

  /// What BERT makes of a text before it cuts it into words.
  static func normalize(_ text: String) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: normalize(Word(text.unicodeScalars)[...]))
    return String(view)
  }

  /// No control characters, one kind of space, Chinese characters apart, no accents, lower case.
  static func normalize(_ text: ArraySlice<Unicode.Scalar>) -> Word {
    var clean = String.UnicodeScalarView()
    for scalar in text where !UnicodeTables.removed.contains(scalar.value) {
      if isSpace(scalar) {
        clean.append(" ")
      } else if isChinese(scalar.value) {
        clean.append(contentsOf: [" ", scalar, " "])
      } else {
        clean.append(scalar)
      }
    }
    // A character at a time: none depends on its neighbours, as the final sigma would.
    return String(clean).decomposedStringWithCanonicalMapping.unicodeScalars
      .filter { !UnicodeTables.marks.contains($0.value) }
      .flatMap { Word($0.properties.lowercaseMapping.unicodeScalars) }
  }

  private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .spaceSeparator, .lineSeparator, .paragraphSeparator: return true
    default: return scalar == "\t" || scalar == "\n" || scalar == "\r"
    }
  }

  /// As `tokenizers` has it: without U+2B820 to U+2B91F.
  private static func isChinese(_ code: UInt32) -> Bool {
    switch code {
    case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0xF900...0xFAFF, 0x20000...0x2A6DF,
      0x2A700...0x2B81F, 0x2B920...0x2CEAF, 0x2F800...0x2FA1F:
      return true
    default: return false
    }
  }
}
