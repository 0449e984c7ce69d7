"""A set's natural wrong answers, and what the learner must be told of each. The tests try them all."""

from dataclasses import dataclass


@dataclass
class WrongAnswer:
    """Answers by name, and the words that the message must hold."""

    question: str
    says: str
    answers: dict


class WrongAnswers(list):
    """`wrong = WrongAnswers()`, then `@wrong("q1", says="log K")` before a function of the learner's name.

    An answer that is a value is given by name: `wrong("q3", says="unbiased", prediction="up")`.
    """

    def __call__(self, question: str, says: str, **answers):
        noted = WrongAnswer(question, says, answers)
        self.append(noted)

        def note(function):
            noted.answers[function.__name__] = function
            return function

        return note
